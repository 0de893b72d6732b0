"""The Optuna sampler: trials in, parameters out. What it believes is in ``model``."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler
from optuna.study import Study
from optuna.trial import FrozenTrial

from autotune.spec.arrays import Floats, Rows
from autotune.studies.search.surrogate.acquisition import Belief
from autotune.studies.search.surrogate.candidates import Candidates
from autotune.studies.search.surrogate.lazy_imports import thread_pools
from autotune.studies.search.surrogate.model import Prior, Surrogate
from autotune.studies.search.surrogate.observations import Observed
from autotune.studies.search.surrogate.reading import is_asking, observed_of
from autotune.studies.search.surrogate.resource_penalty import lighter
from autotune.studies.search.surrogate.turns import Turns

_FIRST = 6
"""Trials before the models speak, warm starts counted, where physical features are known and
nothing else. (On recorded MoE spaces 8 reached 0.980 at 15 trials and 6 reached 0.986: two
seeds.)"""
_FIRST_BLIND = 8
"""The same where only the knobs are known. 12 and 8 were not told apart on convolution A100: 0.92
and 0.89 at 100 trials, ± 0.02 each (40 seeds)."""
_STOP_FROM = 15
"""Measurements before a small expected gain may end a search: beliefs that rest on fewer are
confident where they should not be (a run with siblings would have stopped after one)."""
_STOP_FROM_KNOB = 10
"""The same for each coded knob where nothing physical is known."""
_STOP_STALE = 5
"""Measurements without a new best before a small expected gain may end a search."""
_SPREAD_AMONG = 300
"""Random candidates of which the first design takes the one farthest from all others. Few enough
that seeds differ."""
_PROMISING = 50
"""Best guesses of a prior among which those that start at the same time are spread."""


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
        self._weight: Floats | None = None
        self._turns = Turns(lambda trial: is_asking(self._candidates, trial))
        self._informed(candidates, prior)

    def _informed(self, candidates: Candidates, prior: Prior | None) -> None:
        """Start believing anew from other features or another prior; rows stay as they are."""
        self._candidates = candidates
        self._has_prior = prior is not None
        self._surrogate = Surrogate(candidates, prior, self._seed)
        self._last: tuple[tuple[bytes, bytes], Belief] | None = None

    def _weigh(self, weight: Floats) -> None:
        """From now on, what compiled badly counts less: see ``demotion``."""
        if self._weight is None or not np.array_equal(weight, self._weight):
            self._weight = weight
            self._last = None

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
        trials = self._turns.others(study, trial.number)
        self._prepare(study, trials)
        observed = observed_of(self._candidates, trials)
        self._warm(observed)  # what takes long, while others may still be asking
        later = self._turns.wait(study, trial.number, trials)
        observed = observed.with_taken(observed_of(self._candidates, later))
        chosen = self._chosen(observed, 1)
        if not chosen:
            raise RuntimeError(f"all {len(self._candidates)} candidates are taken; ask no more")
        return dict(self._candidates.rows[chosen[0]])

    def propose(self, study: Study, count: int) -> list[dict[str, Any]]:
        """Parameters to try next, at the same time: distinct, best first, and spread, because each
        counts as in work for the next ones. Fewer than ``count`` where fewer are left.

        The first is what ``ask`` would bring. Queue or start them all before asking again."""
        chosen = self._chosen(self._known(study), count)
        return [dict(self._candidates.rows[row]) for row in chosen]

    def likely(self, study: Study, count: int) -> list[dict[str, Any]]:
        """Parameters that may be asked soon, the likeliest first: what to compile ahead. Those
        of the largest expected improvement, near each other or not."""
        observed = self._known(study)
        unseen = self._unseen(observed)
        if not len(unseen):
            return []
        if self._is_first_design(observed) or not len(observed.measured):
            rows = self._chosen(observed, count)
        else:
            rows = self._belief(observed, unseen).likely(count).tolist()
        return [dict(self._candidates.rows[row]) for row in rows]

    def gains(self, study: Study) -> Floats:
        """[candidates] share of the best time that measuring each is expected to save, in the
        order of the candidates: 0 for what is taken, infinite for what the first design takes."""
        observed = self._known(study)
        unseen = self._unseen(observed)
        gains = np.zeros(len(self._candidates))
        if not len(unseen):
            return gains
        if self._is_first_design(observed) or not len(observed.measured):
            gains[self._chosen(observed, 1)] = math.inf
            return gains
        belief = self._belief(observed, unseen)
        gains[belief.rows] = self._surrogate.gains(observed, belief)
        return gains

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
        against ``--stop-gain``. 0 where nothing is left; infinite where too little is known to
        judge that: below 15 measurements, or ten for each knob where only knobs are known, or
        just after a new best."""
        observed = self._known(study)
        unseen = self._unseen(observed)
        if not len(unseen):
            return 0.0
        if len(observed.measured) < self._stops_from or observed.stale < _STOP_STALE:
            return math.inf
        belief = self._belief(observed, unseen)
        gains = self._surrogate.gains(observed, belief)
        return float(gains[np.argmax(belief.weighted(gains))])

    @property
    def _stops_from(self) -> int:
        if self._has_prior or self._candidates.features.shape[1]:
            return _STOP_FROM
        return max(_STOP_FROM, _STOP_FROM_KNOB * int(self._candidates.knobs.shape[1]))

    def _chosen(self, observed: Observed, count: int) -> list[int]:
        """Distinct rows, in the order in which they should be tried."""
        chosen: list[int] = []
        while len(chosen) < count and len(unseen := self._unseen(observed)):
            rows = self._next(observed, unseen, count - len(chosen))
            observed = observed.with_pending(rows)
            chosen += rows
        return chosen

    def _next(self, observed: Observed, unseen: Rows, count: int) -> list[int]:
        """At least one row, at most ``count``."""
        if self._is_first_design(observed):
            return [self._farthest(observed, unseen)]
        if not len(observed.measured):
            return [self._guess(observed, unseen)]
        return self._belief(observed, unseen).favourites(count)

    def _is_first_design(self, observed: Observed) -> bool:
        if self._has_prior:
            return False
        first = _FIRST if self._candidates.features.shape[1] else _FIRST_BLIND
        return len(observed.taken) < first or not len(observed.measured)

    def _guess(self, observed: Observed, unseen: Rows) -> int:
        """The prior's best; where that is in work, what is far from it among the next best."""
        promising = self._surrogate.best_guesses(lighter(unseen, self._weight), _PROMISING)
        if not len(observed.taken):
            return int(promising[0])
        return self._farthest(observed, promising)

    def _belief(self, observed: Observed, unseen: Rows) -> Belief:
        """The last one is kept: whether to go on and with what are asked one after the other."""
        state = (observed.knowledge, observed.pending.tobytes())
        if self._last is None or self._last[0] != state:
            with thread_pools().limit(limits=1):  # small matrices; the cores have better to do
                belief = self._surrogate.believe(observed, unseen, self._weight)
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

    def _known(self, study: Study) -> Observed:
        trials = study.get_trials(deepcopy=False)
        self._prepare(study, trials)
        return observed_of(self._candidates, trials)

    def _warm(self, observed: Observed) -> None:
        if not self._is_first_design(observed) and len(observed.measured):
            self._belief(observed, self._unseen(observed))

    def _rng(self, observed: Observed) -> np.random.Generator:
        return np.random.default_rng((self._seed, len(observed.taken)))

    def _unseen(self, observed: Observed) -> Rows:
        free = np.ones(len(self._candidates), dtype=bool)
        free[observed.taken] = False
        return np.flatnonzero(free)
