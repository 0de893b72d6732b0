"""Samples pairs with any sampler of single configs: one half leads, the other follows.

Times of the halves add up, so each half is a search of its own; what ties them together is
BLOCK_SIZE_M. In turn, one half's sampler proposes from its whole space, as if its GEMM were all
there is. The other half takes over that BLOCK_SIZE_M and tries a neighbour of the best that it
knows there. So each half has every second trial from its sampler, the others from local search.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution
from optuna.samplers import BaseSampler
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState, create_trial

from autotune.spec.binary import Which
from autotune.spec.config import BLOCK_SIZE_M, Config, ConfigPair
from autotune.spec.measurement import typical_us
from autotune.studies.pairs import PairSpace, half_times
from autotune.studies.search.unseen_sampler import exponents
from autotune.studies.space import Space
from autotune.studies.study_attributes import copy_key
from autotune.studies.trial_record import (
    FAILED_HALF,
    HALF_US,
    MEASURED,
    OUTCOME,
    ROUTINGS,
    asked_config,
    distributions,
    measured,
    taken_configs,
)

HalfSampler = Callable[[Space, int], BaseSampler]

_BEST = 3
"""Number of fastest halves, of one of which a follower tries a neighbour."""


class PairSampler(BaseSampler):
    """Never repeats a leading half, and never leaves the space. Whoever asks sees to it that
    something is left (``SearchSpace.is_exhausted``)."""

    def __init__(self, space: PairSpace, make: HalfSampler, seed: int) -> None:
        self._space = space
        self._samplers: Mapping[Which, BaseSampler] = {
            "up": make(space.up, seed),
            "down": make(space.down, seed + 1),
        }
        self._rng = np.random.default_rng(seed)

    def infer_relative_search_space(
        self, study: Study, trial: FrozenTrial
    ) -> dict[str, BaseDistribution]:
        return dict(distributions(self._space))

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        if "fixed_params" in trial.system_attrs:  # queued: nothing is asked of a sampler
            return {}
        trials = study.get_trials(deepcopy=False)
        others = [other for other in trials if other.number != trial.number]
        leader: Which = "up" if trial.number % 2 == 0 else "down"
        if self._space.half(leader).is_exhausted(_taken(others, leader)):
            leader = _other(leader)
        leading = self._lead(study, others, leader)
        following = self._follow(others, _other(leader), leading)
        ups = (leading, following) if leader == "up" else (following, leading)
        return dict(ConfigPair(*ups).as_keys())

    def sample_independent(
        self,
        study: Study,
        trial: FrozenTrial,
        param_name: str,
        param_distribution: BaseDistribution,
    ) -> Any:
        """Raises ValueError: the keys of a pair are only proposed together."""
        raise ValueError(
            f"parameter {param_name!r} is not one of a pair's; ask with the space's distributions"
        )

    def reseed_rng(self) -> None:
        self._rng = np.random.default_rng()
        for sampler in self._samplers.values():
            sampler.reseed_rng()

    def _lead(self, study: Study, trials: Sequence[FrozenTrial], which: Which) -> Config:
        space = self._space.half(which)
        half = _half_study(study, trials, which, self._samplers[which], space)
        asked = half.ask(dict(distributions(space)))
        return Config.from_keys(asked.params)

    def _follow(self, trials: Sequence[FrozenTrial], which: Which, leading: Config) -> Config:
        """Return the unseen config with that BLOCK_SIZE_M that is nearest to one of the best there;
        to ``leading`` where none is known; a known one where all are."""
        size = leading.block_size_m
        known = [t for t in half_times(measured(trials), which) if t.config.block_size_m == size]
        best = sorted(known, key=lambda time: time.geomean_us)[:_BEST]
        anchor = best[int(self._rng.integers(len(best)))].config if best else leading
        taken = _taken(trials, which)
        here = [c for c in self._space.half(which).configs if c.block_size_m == size]
        unseen = [config for config in here if config not in taken]
        if not unseen:
            return best[0].config if best else here[0]
        apart = exponents([_free_knobs(c) for c in unseen]) - exponents([_free_knobs(anchor)])
        distance = np.abs(apart).sum(axis=1)
        nearest = np.flatnonzero(distance == distance.min())
        return unseen[int(self._rng.choice(nearest))]


def _other(which: Which) -> Which:
    return "down" if which == "up" else "up"


def _taken(trials: Sequence[FrozenTrial], which: Which) -> set[Config]:
    pairs = taken_configs(trial for trial in trials if not _is_spared(trial, which))
    return {getattr(pair, which) for pair in pairs}


def _is_spared(trial: FrozenTrial, which: Which) -> bool:
    """True where the trial failed because of the other half: nothing is known of this one."""
    return trial.user_attrs.get(FAILED_HALF) == _other(which)


def _half_study(
    study: Study, trials: Sequence[FrozenTrial], which: Which, sampler: BaseSampler, space: Space
) -> Study:
    """Return a study in memory whose trials are of one half."""
    half = optuna.create_study(sampler=sampler)
    copy_key(study, half)
    knobs = distributions(space)
    halves = (_half_trial(trial, which, knobs) for trial in trials)
    half.add_trials(trial for trial in halves if trial is not None)
    return half


def _half_trial(
    trial: FrozenTrial, which: Which, knobs: Mapping[str, CategoricalDistribution]
) -> FrozenTrial | None:
    pair = asked_config(trial)
    if not isinstance(pair, ConfigPair) or _is_spared(trial, which):
        return None
    params = getattr(pair, which).as_keys()
    if any(params[key] not in known.choices for key, known in knobs.items()):
        return None
    samples = trial.user_attrs.get(HALF_US[which], ())
    is_measured = trial.state in MEASURED and samples
    state = TrialState.RUNNING if trial.state == TrialState.WAITING else trial.state
    return create_trial(
        state=state,
        params=params,
        distributions=dict(knobs),
        value=typical_us(samples, trial.user_attrs.get(ROUTINGS, 1)) if is_measured else None,
        user_attrs={k: v for k, v in trial.user_attrs.items() if k == OUTCOME},
    )


def _free_knobs(config: Config) -> list[int]:
    """Return the values of all keys but BLOCK_SIZE_M, which is the same."""
    return [value for key, value in config.as_keys().items() if key != BLOCK_SIZE_M]
