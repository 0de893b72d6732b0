"""Samplers that never repeat and never leave the space, whatever proposes.

Adding one: a function from (space, seed) to BaseSampler, and a line in ``SAMPLERS``.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np
import optuna
from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler, GPSampler, RandomSampler, TPESampler
from optuna.study import Study
from optuna.trial import FrozenTrial

from autotune.spec.config import Config
from autotune.studies.pairs import PairSpace
from autotune.studies.search.pair_sampler import PairSampler
from autotune.studies.search.surrogate.acquisition import FootprintLookup
from autotune.studies.search.surrogate.sampler import SiblingLookup, TransferSampler
from autotune.studies.space import SearchSpace, Space
from autotune.studies.trial_record import taken_configs

_TRIES = 8
"""Proposals of the inner sampler before its last one is moved to the nearest unseen config."""


class UnseenSampler(BaseSampler):
    """Draws from an Optuna sampler until a proposal is feasible and new.

    After a few tries the nearest config that is both is taken: nearest by the number of powers
    of two between them, over all knobs. Whoever asks sees to it that
    something is left (``objective.is_exhausted``).
    """

    def __init__(self, space: Space, inner: BaseSampler, seed: int) -> None:
        self._space = space
        self._inner = inner
        self._rng = np.random.default_rng(seed)

    def infer_relative_search_space(
        self, study: Study, trial: FrozenTrial
    ) -> dict[str, BaseDistribution]:
        knobs = self._space.knobs.items()
        return {key: optuna.distributions.CategoricalDistribution(v) for key, v in knobs}

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        unseen = self._unseen(study)
        params: dict[str, Any] = {}
        for _ in range(_TRIES):
            params = self._propose(study, trial, search_space)
            index = self._index(params)
            if index is not None and unseen[index]:
                return params
        return dict(self._rows[self._nearest(params, unseen)])

    def sample_independent(
        self,
        study: Study,
        trial: FrozenTrial,
        param_name: str,
        param_distribution: BaseDistribution,
    ) -> Any:
        return self._inner.sample_independent(study, trial, param_name, param_distribution)

    def before_trial(self, study: Study, trial: FrozenTrial) -> None:
        self._inner.before_trial(study, trial)

    def after_trial(self, study: Study, trial: FrozenTrial, state: Any, values: Any) -> None:
        self._inner.after_trial(study, trial, state, values)

    def reseed_rng(self) -> None:
        self._rng = np.random.default_rng()
        self._inner.reseed_rng()

    @cached_property
    def _rows(self) -> list[dict[str, int]]:
        """Of the space. Made when first needed: each worker has a sampler for every study."""
        return [config.as_keys() for config in self._space.configs]

    @cached_property
    def _coded(self) -> np.ndarray[Any, np.dtype[np.float64]]:
        return np.array([[_code(v) for v in row.values()] for row in self._rows])

    def _propose(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        relative = self._inner.infer_relative_search_space(study, trial)
        params = dict(self._inner.sample_relative(study, trial, relative))
        for name, distribution in search_space.items():
            if name not in params:
                params[name] = self._inner.sample_independent(study, trial, name, distribution)
        return params

    def _unseen(self, study: Study) -> np.ndarray[Any, np.dtype[np.bool_]]:
        taken = taken_configs(study.get_trials(deepcopy=False))
        return np.array([config not in taken for config in self._space.configs])

    def _index(self, params: Mapping[str, Any]) -> int | None:
        config = Config.from_keys(params)
        return self._space.configs.index(config) if config in self._space else None

    def _nearest(
        self, params: Mapping[str, Any], unseen: np.ndarray[Any, np.dtype[np.bool_]]
    ) -> int:
        target = np.array([_code(params[key]) for key in self._rows[0]])
        distance = np.abs(self._coded - target).sum(axis=1)
        distance[~unseen] = math.inf
        best = np.flatnonzero(distance == distance.min())
        return int(self._rng.choice(best))


def _code(value: float) -> float:
    """Powers of two by their exponent, zero below one."""
    return math.log2(value) if value > 0 else -1.0


def _tpe(space: Space, seed: int) -> BaseSampler:
    return UnseenSampler(space, TPESampler(seed=seed), seed)


def _gp(space: Space, seed: int) -> BaseSampler:
    return UnseenSampler(space, GPSampler(seed=seed), seed)


def _random(space: Space, seed: int) -> BaseSampler:
    return UnseenSampler(space, RandomSampler(seed=seed), seed)


class GridSampler(UnseenSampler):
    """Every config of the space, in its order."""

    def __init__(self, space: Space, seed: int) -> None:
        super().__init__(space, RandomSampler(seed=seed), seed)

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        return dict(self._rows[int(np.argmax(self._unseen(study)))])


SAMPLERS: Mapping[str, Callable[[Space, int], BaseSampler]] = {
    "surrogate": TransferSampler,
    "tpe": _tpe,
    "gp": _gp,
    "random": _random,
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
) -> BaseSampler:
    """The sampler of a study: for pairs of configs, one of ``SAMPLERS`` on each half.

    ``history`` (of sibling studies), ``prior_us`` (a guess for each of ``space.configs``) and
    ``footprints`` (of what is compiled) are for those that can learn from them.
    """
    make = SAMPLERS[name]
    if isinstance(space, PairSpace):
        return PairSampler(space, make, seed)
    assert isinstance(space, Space)
    if name == "surrogate":
        return TransferSampler(
            space, seed, history=history, prior_us=prior_us, footprints=footprints
        )
    return make(space, seed)
