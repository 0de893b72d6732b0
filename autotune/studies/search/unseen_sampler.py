"""Samplers that draw from any Optuna sampler, yet never repeat and never leave the space."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray
from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler, RandomSampler
from optuna.study import Study
from optuna.trial import FrozenTrial

from autotune.spec.arrays import Floats
from autotune.spec.config import Config
from autotune.studies.space import Space
from autotune.studies.trial_record import distributions, taken_configs

_TRIES = 8
"""Proposals of the inner sampler before its last one is moved to the nearest unseen config."""


class UnseenSampler(BaseSampler):
    """Draws from an Optuna sampler until a proposal is feasible and new.

    After a few tries the nearest config that is both is taken: nearest by the number of powers
    of two between them, over all knobs. Whoever asks sees to it that
    something is left (``SearchSpace.is_exhausted``).
    """

    def __init__(self, space: Space, inner: BaseSampler, seed: int) -> None:
        self._space = space
        self._inner = inner
        self._rng = np.random.default_rng(seed)

    def infer_relative_search_space(
        self, study: Study, trial: FrozenTrial
    ) -> dict[str, BaseDistribution]:
        return dict(distributions(self._space))

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
        """Parameters of the space. Made when first needed: each worker has a sampler for every
        study."""
        return [config.as_keys() for config in self._space.configs]

    @cached_property
    def _coded(self) -> Floats:
        return exponents([list(row.values()) for row in self._rows])

    def _propose(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        relative = self._inner.infer_relative_search_space(study, trial)
        params = dict(self._inner.sample_relative(study, trial, relative))
        for name, distribution in search_space.items():
            if name not in params:
                params[name] = self._inner.sample_independent(study, trial, name, distribution)
        return params

    def _unseen(self, study: Study) -> NDArray[np.bool_]:
        taken = taken_configs(study.get_trials(deepcopy=False))
        return np.array([config not in taken for config in self._space.configs])

    def _index(self, params: Mapping[str, Any]) -> int | None:
        config = Config.from_keys(params)
        return self._space.configs.index(config) if config in self._space else None

    def _nearest(self, params: Mapping[str, Any], unseen: NDArray[np.bool_]) -> int:
        target = exponents([[params[key] for key in self._rows[0]]])
        distance = np.abs(self._coded - target).sum(axis=1)
        distance[~unseen] = math.inf
        best = np.flatnonzero(distance == distance.min())
        return int(self._rng.choice(best))


class GridSampler(UnseenSampler):
    """Asks for every config of the space, in its order."""

    def __init__(self, space: Space, seed: int) -> None:
        super().__init__(space, RandomSampler(seed=seed), seed)

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        return dict(self._rows[int(np.argmax(self._unseen(study)))])


def exponents(rows: Sequence[Sequence[float]]) -> Floats:
    """Return numbers [row, column] as powers of two by their exponent, 0 as -1: how far apart two
    configs are is the sum of the differences."""
    exponent: Floats = np.log2(np.maximum(np.array(rows, dtype=float), 0.5))
    return exponent
