"""The order of a config's programs: GROUP_SIZE_M alone. It is a number of the launch, so configs
that differ in nothing else share their binaries: another one costs a measurement, no compile."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import replace

from autotune.kernels.config import KEY_OF_FIELD, UP, AnyConfig, ConfigPair
from autotune.studies.pairs import best_pairs
from autotune.studies.record import Measured
from autotune.studies.space import SearchSpace

_GROUP_SIZE_M = KEY_OF_FIELD["group_size_m"]


def regrouped(best: AnyConfig, space: SearchSpace) -> Iterator[AnyConfig]:
    """``best`` with every GROUP_SIZE_M of the space, of which some may not be members. Both halves
    of a pair get the same: each is timed alone."""
    knobs = space.knobs
    for size in knobs.get(_GROUP_SIZE_M) or knobs.get(UP + _GROUP_SIZE_M, ()):
        if isinstance(best, ConfigPair):
            up, down = (replace(half, group_size_m=size) for half in (best.up, best.down))
            yield ConfigPair(up, down)
        else:
            yield replace(best, group_size_m=size)


def last_tries(entries: Collection[Measured], space: SearchSpace) -> Iterator[AnyConfig]:
    """What to measure before a study ends: the best config's other groups, and of pairs their best
    halves together. Nothing where nothing was measured to the end."""
    complete = (entry for entry in entries if entry.complete)
    best = min(complete, key=lambda entry: entry.mean_us, default=None)
    if best is not None:
        yield from regrouped(best.config, space)
        yield from best_pairs(entries)[:1]
