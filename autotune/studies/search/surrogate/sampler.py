"""The Optuna samplers: trials in, parameters out. ``model`` holds their beliefs."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache
from typing import Any

import numpy as np
from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler
from optuna.study import Study
from optuna.trial import FrozenTrial

from autotune.spec.arrays import Floats, Rows
from autotune.studies.key import StudyKey
from autotune.studies.search.history import Sibling
from autotune.studies.search.surrogate.acquisition import (
    Acquisition,
    BegunLookup,
    FootprintLookup,
    haste,
    lighter,
    weights,
)
from autotune.studies.search.surrogate.candidates import (
    Candidates,
    Observed,
    candidates_of,
    observed_of,
)
from autotune.studies.search.surrogate.features import features
from autotune.studies.search.surrogate.model import Prior, Surrogate, thread_pools
from autotune.studies.search.surrogate.prior import PriorTask, sibling_prior
from autotune.studies.search.surrogate.rough_time import rough_clocks
from autotune.studies.space import Space
from autotune.studies.study_attributes import key_of
from autotune.studies.trial_record import MEASURED

SiblingLookup = Callable[[StudyKey], Sequence[Sibling]]
"""Returns the siblings of a study that are known by now."""

USUAL_STOP = 30
"""Measurements within which ``expected_gain`` becomes small: after 17 in the mean on recorded
landscapes where nothing is known (early stops in benchmarks/samplers/README.md)."""

_FIRST = 6
"""Trials before the models speak, warm starts counted, where there is no prior. (On recorded MoE
spaces 8 reached 0.980 at 15 trials and 6 reached 0.986: two seeds.)"""
_STOP_FROM = 15
"""Measurements before a small expected gain may end a search: beliefs that rest on fewer are
confident where they should not be (a run with siblings would have stopped after one)."""
_STOP_STALE = 5
"""Measurements without a new best before a small expected gain may end a search. After twice as
many half of it is believed, and so on: a tenth fewer measurements for the same regret
(benchmarks/workers/simulate.py)."""
_SPREAD_AMONG = 300
"""Random candidates of which the first design takes the one farthest from all others. Few enough
that seeds differ."""
_PROMISING = 50
"""Best guesses of a prior among which those that start at the same time are spread."""
_LOOK_AGAIN = 2
"""Siblings are read again when the study has so many times the measurements it had: siblings
that are tuned at the same time teach too, and own measurements soon tell more."""
_AT_LEAST = 8
_GROWN = 1.2
"""Nothing is learnt anew from siblings that have not so many times the measurements they had."""


class SurrogateSampler(BaseSampler):
    """Asks for the unseen candidate with the largest expected improvement. Implements BatchSampler.

    Never repeats and never leaves the candidates. Trials in work or queued count with their
    believed time; failed ones, if they say why (user attribute ``outcome``), count as slow, and
    pruned ones with what they measured. Times are minimised and positive. Sequences repeat for a
    seed, also after a resume up to the fit of hyperparameters.
    """

    def __init__(self, candidates: Candidates, seed: int) -> None:
        self._seed = seed
        self._quality = np.ones(len(candidates))
        self._weight: Floats | None = None
        self._informed(candidates, None)

    def _informed(self, candidates: Candidates, prior: Prior | None) -> None:
        """Build the model anew from other features or another prior; rows stay as they are."""
        self._candidates = candidates
        self._has_prior = prior is not None
        self._surrogate = Surrogate(candidates, prior, self._seed)
        self._last: tuple[tuple[bytes, bytes], Acquisition] | None = None

    def _weigh(self, quality: Floats, urgency: Floats | float) -> None:
        """Weigh candidates from now on: see ``acquisition.weights`` and ``haste``. The latter says
        what is tried first, and nothing of what there is to gain."""
        self._quality, weight = quality, quality * urgency
        if self._weight is None or not np.array_equal(weight, self._weight):
            self._weight = weight
            self._last = None

    def _prepare(self, study: Study, trials: list[FrozenTrial]) -> None:
        """Learn from elsewhere before a proposal: for subclasses."""

    def infer_relative_search_space(
        self, study: Study, trial: FrozenTrial
    ) -> dict[str, BaseDistribution]:
        return dict(self._candidates.distributions)

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """Raises RuntimeError where every candidate is taken (``SearchSpace.is_exhausted``)."""
        trials = study.get_trials(deepcopy=False)
        others = [other for other in trials if other.number != trial.number]
        chosen = self._chosen(self._known(study, others), 1)
        if not chosen:
            raise RuntimeError(f"all {len(self._candidates)} candidates are taken; ask no more")
        return dict(self._candidates.rows[chosen[0]])

    def propose(self, study: Study, count: int) -> list[dict[str, Any]]:
        """Return parameters to try at the same time: distinct, best first, and spread, because each
        counts as in work for the next ones. Fewer than ``count`` where fewer are left.

        The first is what ``ask`` would bring. Queue or start them all before asking again."""
        chosen = self._chosen(self._known(study), count)
        return [dict(self._candidates.rows[row]) for row in chosen]

    def likely(self, study: Study, count: int) -> list[dict[str, Any]]:
        """Return parameters that may be asked soon, to be compiled ahead: those of the largest
        expected improvement first, near each other or not."""
        observed = self._known(study)
        unseen = self._unseen(observed)
        if not len(unseen):
            return []
        if self._is_first_design(observed) or not len(observed.measured):
            rows = self._chosen(observed, count)
        else:
            rows = self._acquisition(observed, unseen).likely(count).tolist()
        return [dict(self._candidates.rows[row]) for row in rows]

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
        """Return the share of the best time that the next trial is expected to save, which a run
        loop holds against ``--stop-gain``. 0 where nothing is left; infinite where too little is
        known to judge that: below 15 measurements, or just after a new best. It is believed the
        less the longer nothing came of it."""
        observed = self._known(study)
        unseen = self._unseen(observed)
        if not len(unseen):
            return 0.0
        if len(observed.measured) < _STOP_FROM or observed.stale < _STOP_STALE:
            return math.inf
        acquisition = self._acquisition(observed, unseen)
        gains = self._surrogate.gains(observed, acquisition)
        gain = float(gains[np.argmax(gains * self._quality[acquisition.rows])])
        return gain * _STOP_STALE / observed.stale

    def _chosen(self, observed: Observed, count: int) -> list[int]:
        """Return distinct rows, in the order in which they should be tried."""
        chosen: list[int] = []
        while len(chosen) < count and len(unseen := self._unseen(observed)):
            rows = self._next(observed, unseen, count - len(chosen))
            observed = observed.with_pending(rows)
            chosen += rows
        return chosen

    def _next(self, observed: Observed, unseen: Rows, count: int) -> list[int]:
        """Return at least one row, at most ``count``."""
        if self._is_first_design(observed):
            return [self._farthest(observed, unseen)]
        if not len(observed.measured):
            return [self._guess(observed, unseen)]
        return self._acquisition(observed, unseen).favourites(count)

    def _is_first_design(self, observed: Observed) -> bool:
        if self._has_prior:
            return False
        return len(observed.taken) < _FIRST or not len(observed.measured)

    def _guess(self, observed: Observed, unseen: Rows) -> int:
        """Return the prior's best; where that is in work, one far from it among the next best."""
        promising = self._surrogate.best_guesses(lighter(unseen, self._weight), _PROMISING)
        if not len(observed.taken):
            return int(promising[0])
        return self._farthest(observed, promising)

    def _acquisition(self, observed: Observed, unseen: Rows) -> Acquisition:
        """Return the last one where nothing changed: whether to go on, and with what, are asked one
        after the other."""
        state = (observed.knowledge, observed.pending.tobytes())
        if self._last is None or self._last[0] != state:
            with thread_pools().limit(limits=1):  # small matrices; the cores have better to do
                acquisition = self._surrogate.acquisition(observed, unseen, self._weight)
                self._last = (state, acquisition)
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

    def _known(self, study: Study, trials: list[FrozenTrial] | None = None) -> Observed:
        trials = study.get_trials(deepcopy=False) if trials is None else trials
        self._prepare(study, trials)
        return observed_of(self._candidates, trials)

    def _rng(self, observed: Observed) -> np.random.Generator:
        return np.random.default_rng((self._seed, len(observed.taken)))

    def _unseen(self, observed: Observed) -> Rows:
        free = np.ones(len(self._candidates), dtype=bool)
        free[observed.taken] = False
        return np.flatnonzero(free)


class TransferSampler(SurrogateSampler):
    """A ``SurrogateSampler`` of our own studies: features from the key, hints from siblings.

    A study without our key (``study_record.open_study`` writes it) is sampled by its knobs alone.
    """

    def __init__(
        self,
        space: Space,
        seed: int,
        *,
        history: SiblingLookup | None = None,
        prior_us: Sequence[float] | None = None,
        footprints: FootprintLookup | None = None,
        begun: BegunLookup | None = None,
    ) -> None:
        """``history`` finds a key's siblings; it is called now and then, not for each trial.
        ``prior_us`` is a guess for each config of ``space.configs``, of which only the ratios
        count; None: ``rough_clocks``. ``footprints`` tells what was compiled by now, and how well,
        ``begun`` what will be anyway; None: nothing is compiled."""
        super().__init__(_of_space(space), seed)
        self._space = space
        self._history = history
        self._prior_us = prior_us
        self._footprints = footprints or dict
        self._begun = begun
        self._key: StudyKey | None = None
        self._learnt_from: int | None = None
        """Measurements of siblings; None before the first time."""
        self._next_look = 0

    def _prepare(self, study: Study, trials: list[FrozenTrial]) -> None:
        compiled, count = self._footprints(), len(self._candidates)
        self._weigh(weights(compiled, count), self._haste(compiled))
        measured = sum(trial.state in MEASURED for trial in trials)
        if measured < self._next_look:
            return
        self._key = self._key or key_of(study)
        self._next_look = max(_LOOK_AGAIN * measured, _AT_LEAST)
        if self._key is None:
            return
        known = self._history(self._key) if self._history else ()
        lessons = sum(len(sibling.configs) for sibling in known)
        if self._learnt_from is None or lessons > _GROWN * self._learnt_from:
            self._learn(self._key, known)
            self._learnt_from = lessons

    def _haste(self, compiled: Iterable[int]) -> Floats | float:
        """Return ``haste``; 1 where nothing is compiled."""
        if self._begun is None:
            return 1.0
        row_of = self._space.row_of
        begun = (row_of[config] for config in self._begun() if config in row_of)
        return haste([*compiled, *begun], len(self._candidates))

    def _learn(self, key: StudyKey, known: Sequence[Sibling]) -> None:
        task = PriorTask(key.problem, key.device, self._space)
        if self._prior_us is None:
            guess = rough_clocks(key.problem, key.device, self._space.configs)
        else:
            guess = np.array(self._prior_us, dtype=float)
        prior = sibling_prior(task, known, guess, seed=self._seed)
        if self._learnt_from is None:
            physics = features(key.problem, key.device, self._space.configs)
            self._candidates = candidates_of(self._candidates.rows, physics)
        self._informed(self._candidates, prior)


@lru_cache(maxsize=8)
def _of_space(space: Space) -> Candidates:
    """Return the candidates of a space, which the studies of a model's batch sizes share."""
    return candidates_of([config.as_keys() for config in space.configs])
