"""The Optuna sampler: trials in, parameters out. What it believes is in ``model``."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState
from threadpoolctl import threadpool_limits

from autotune.studies.record import MEASURED
from autotune.studies.surrogate.candidates import Candidates
from autotune.studies.surrogate.model import Belief, Prior, Surrogate
from autotune.studies.surrogate.observed import Observed

Rows = NDArray[np.int64]

_FIRST = 6
"""Trials before the models speak, warm starts counted, where physical features are known and
nothing else. (On recorded MoE spaces 8 reached 0.980 at 15 trials and 6 reached 0.986: two
seeds.)"""
_FIRST_BLIND = 8
"""The same where only the knobs are known. 12 reach 0.96 ± 0.02 and 8 reach 0.89 ± 0.03 on
convolution A100 (20 seeds, at 100 trials); not yet tried on other seeds or kernels."""
_STOP_FROM = 15
"""Measurements before a small expected gain may end a search: beliefs that rest on fewer are
confident where they should not be (a run with siblings would have stopped after one)."""
_SPREAD_AMONG = 300
"""Random candidates of which the first design takes the one farthest from all others. Few enough
that seeds differ."""

Knowledge = Callable[[Study], tuple[Candidates, "Prior | None"]]


class SurrogateSampler(BaseSampler):
    """Asks for the unseen candidate with the largest expected improvement.

    Never repeats and never leaves the candidates. Trials in work or queued count with their
    believed time; failed ones, if they say why (user attribute ``outcome``), count as slow, and
    pruned ones with what they measured. Times are minimised and positive. Sequences repeat for a
    seed, also after a resume up to the fit of hyperparameters.
    """

    def __init__(self, candidates: Candidates, seed: int, prior: Prior | None = None) -> None:
        self._seed = seed
        self._candidates = candidates
        self._informed(candidates, prior)

    def _informed(self, candidates: Candidates, prior: Prior | None) -> None:
        """Start believing anew from other features or another prior; rows stay as they are."""
        self._candidates = candidates
        self._has_prior = prior is not None
        self._surrogate = Surrogate(candidates, prior)
        self._last: tuple[bytes, Belief] | None = None

    def _prepare(self, study: Study, trials: list[FrozenTrial]) -> None:
        """Before a proposal: subclasses take in what they can learn elsewhere."""

    def infer_relative_search_space(
        self, study: Study, trial: FrozenTrial
    ) -> dict[str, BaseDistribution]:
        return dict(self._candidates.distributions)

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """Raises RuntimeError where every candidate is taken (``objective.is_exhausted``)."""
        trials = study.get_trials(deepcopy=False)
        others = [other for other in trials if other.number != trial.number]
        self._prepare(study, others)
        observed = self._observed(others)
        unseen = self._unseen(observed)
        if not len(unseen):
            raise RuntimeError(f"all {len(self._candidates)} candidates are taken; ask no more")
        return dict(self._candidates.rows[self._choose(observed, unseen)])

    def sample_independent(
        self,
        study: Study,
        trial: FrozenTrial,
        param_name: str,
        param_distribution: BaseDistribution,
    ) -> Any:
        """Raises ValueError: parameters are only proposed together."""
        known = ", ".join(self._candidates.distributions)
        raise ValueError(
            f"parameter {param_name!r} with {param_distribution} is not one that this sampler "
            f"enumerates ({known}); ask with the distributions of its candidates"
        )

    def expected_gain(self, study: Study) -> float:
        """Share of the best time that the next trial is expected to save: what a run loop holds
        against ``--stop-gain``. Infinite below 15 measurements, 0 where nothing is left."""
        trials = study.get_trials(deepcopy=False)
        self._prepare(study, trials)
        observed = self._observed(trials)
        unseen = self._unseen(observed)
        if not len(unseen):
            return 0.0
        if len(observed.measured) < _STOP_FROM:
            return math.inf
        return self._belief(observed, unseen).expected_gain

    def _choose(self, observed: Observed, unseen: Rows) -> int:
        if self._is_first_design(observed):
            return self._farthest(observed, unseen)
        if not len(observed.measured):
            return self._surrogate.guess(unseen)
        return self._belief(observed, unseen).favourite

    def _is_first_design(self, observed: Observed) -> bool:
        if self._has_prior:
            return False
        first = _FIRST if self._candidates.features.shape[1] else _FIRST_BLIND
        return len(observed.taken) < first or not len(observed.measured)

    def _belief(self, observed: Observed, unseen: Rows) -> Belief:
        """The last one is kept: whether to go on and with what are asked one after the other."""
        state = observed.fingerprint
        if self._last is None or self._last[0] != state:
            with threadpool_limits(limits=1):  # small matrices; the cores have better to do
                belief = self._surrogate.believe(observed, unseen, self._rng(observed))
            self._last = (state, belief)
        return self._last[1]

    def _farthest(self, observed: Observed, unseen: Rows) -> int:
        rng = self._rng(observed)
        among = np.sort(rng.permutation(unseen)[:_SPREAD_AMONG])
        taken = observed.taken
        if not len(taken):
            return int(rng.choice(among))
        spread = self._candidates.unit
        distance = np.abs(spread[among][:, None] - spread[taken][None]).sum(axis=2).min(axis=1)
        return int(among[np.argmax(distance)])

    def _rng(self, observed: Observed) -> np.random.Generator:
        return np.random.default_rng((self._seed, len(observed.taken)))

    def _unseen(self, observed: Observed) -> Rows:
        free = np.ones(len(self._candidates), dtype=bool)
        free[observed.taken] = False
        return np.flatnonzero(free)

    def _observed(self, trials: Iterable[FrozenTrial]) -> Observed:
        """Later trials of one row win over earlier ones, and a measurement over all else."""
        times: dict[int, tuple[float, bool]] = {}
        failed: set[int] = set()
        pending: set[int] = set()
        for trial in trials:
            row = self._row(trial)
            if row is None:
                continue
            if trial.state in MEASURED and trial.value is not None and trial.value > 0:
                times[row] = (trial.value, trial.state == TrialState.COMPLETE)
            elif trial.state in (TrialState.RUNNING, TrialState.WAITING):
                pending.add(row)
            elif trial.state != TrialState.FAIL or "outcome" in trial.user_attrs:
                failed.add(row)
        return _observed(times, failed, pending)

    def _row(self, trial: FrozenTrial) -> int | None:
        queued = trial.state == TrialState.WAITING
        params = trial.system_attrs.get("fixed_params", {}) if queued else trial.params
        return self._candidates.index(params)


def _observed(
    times: dict[int, tuple[float, bool]], failed: set[int], pending: set[int]
) -> Observed:
    return Observed(
        measured=np.array(list(times), dtype=np.int64),
        us=np.array([us for us, _ in times.values()], dtype=float),
        complete=np.array([complete for _, complete in times.values()], dtype=bool),
        failed=np.array(sorted(failed - times.keys()), dtype=np.int64),
        pending=np.array(sorted(pending - failed - times.keys()), dtype=np.int64),
    )
