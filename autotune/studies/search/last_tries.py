"""The order of a config's programs: GROUP_SIZE_M alone. To our kernel it is a number of the launch,
so configs that differ in nothing else share their binaries: another one costs a measurement and no
compile. To an engine's own kernel it is a constant."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import replace

from autotune.spec.config import KEY_OF_FIELD, Config
from autotune.studies.space import SearchSpace
from autotune.studies.trial_record import Measured

_GROUP_SIZE_M = KEY_OF_FIELD["group_size_m"]


def regrouped(config: Config, space: SearchSpace) -> Iterator[Config]:
    """``config`` with every GROUP_SIZE_M of the space, of which some may not be members."""
    for size in space.knobs[_GROUP_SIZE_M]:
        yield replace(config, group_size_m=size)


def last_tries(entries: Collection[Measured], space: SearchSpace) -> Iterator[Config]:
    """What to measure before a study of a config for both GEMMs ends: its best one's other groups.
    Nothing of pairs, and where nothing was measured to the end."""
    complete = (entry for entry in entries if entry.complete)
    best = min(complete, key=lambda entry: entry.geomean_us, default=None)
    if best is not None and isinstance(best.config, Config):
        yield from regrouped(best.config, space)
