"""The samplers that ``--sampler`` offers: none repeats, none leaves the space.

Adding one: a function from (space, seed) to BaseSampler, and a line in ``SAMPLERS``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial

from optuna.samplers import BaseSampler, GPSampler, RandomSampler, TPESampler

from autotune.studies.pairs import PairSpace
from autotune.studies.search.pair_sampler import PairSampler
from autotune.studies.search.surrogate.acquisition import BegunLookup, FootprintLookup
from autotune.studies.search.surrogate.sampler import SiblingLookup, TransferSampler
from autotune.studies.search.unseen_sampler import GridSampler, UnseenSampler
from autotune.studies.space import SearchSpace, Space


def _unseen(inner: Callable[..., BaseSampler], space: Space, seed: int) -> BaseSampler:
    return UnseenSampler(space, inner(seed=seed), seed)


SAMPLERS: Mapping[str, Callable[[Space, int], BaseSampler]] = {
    "surrogate": TransferSampler,
    "tpe": partial(_unseen, TPESampler),
    "gp": partial(_unseen, GPSampler),
    "random": partial(_unseen, RandomSampler),
    "grid": GridSampler,
}
"""Name of ``--sampler`` → maker from a space and a seed."""


def make_sampler(
    name: str,
    space: SearchSpace,
    seed: int,
    *,
    history: SiblingLookup | None = None,
    prior_us: Sequence[float] | None = None,
    footprints: FootprintLookup | None = None,
    begun: BegunLookup | None = None,
) -> BaseSampler:
    """Return the sampler of a study: for pairs of configs, one of ``SAMPLERS`` on each half.

    ``history`` (of sibling studies), ``prior_us`` (a guess for each of ``space.configs``) and
    ``footprints`` (of what is compiled), and what is ``begun`` by sibling studies, are for those
    that can learn from them.
    """
    make = SAMPLERS[name]
    if isinstance(space, PairSpace):
        return PairSampler(space, make, seed)
    assert isinstance(space, Space)
    if name == "surrogate":
        return TransferSampler(
            space, seed, history=history, prior_us=prior_us, footprints=footprints, begun=begun
        )
    return make(space, seed)
