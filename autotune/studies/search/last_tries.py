"""The order of a config's programs: GROUP_SIZE_M alone. To our kernel it is a number of the launch,
so configs that differ in nothing else share their binaries: another one costs a measurement and no
compile. To an engine's own kernel it is a constant."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import replace

from autotune.spec.config import KEY_OF_FIELD, Config
from autotune.studies.space import SearchSpace
from autotune.studies.trial_record import TrialRecord, best_of

_GROUP_SIZE_M = KEY_OF_FIELD["group_size_m"]


def regrouped(config: Config, space: SearchSpace) -> Iterator[Config]:
    """Yield ``config`` with every GROUP_SIZE_M of the space, of which some may not be members."""
    for size in space.knobs[_GROUP_SIZE_M]:
        yield replace(config, group_size_m=size)


def last_tries(entries: Collection[TrialRecord], space: SearchSpace) -> Iterator[Config]:
    """Yield the best config's other GROUP_SIZE_M, to be measured before a study ends. Nothing of
    pairs, and where nothing was measured to the end."""
    best = best_of(entries)
    if best is not None and isinstance(best.config, Config):
        yield from regrouped(best.config, space)
