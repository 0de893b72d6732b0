"""The sampler of our own studies: physics from the study key, hints from siblings."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from optuna.study import Study
from optuna.trial import FrozenTrial

from autotune.studies.key import StudyKey
from autotune.studies.search.history import Sibling
from autotune.studies.search.surrogate.candidates import candidates_of
from autotune.studies.search.surrogate.features import SMS, features
from autotune.studies.search.surrogate.prior import Subject, sibling_prior
from autotune.studies.search.surrogate.resource_penalty import Footprints, weights
from autotune.studies.search.surrogate.sampler import SurrogateSampler
from autotune.studies.space import Space
from autotune.studies.trial_record import MEASURED

History = Callable[[StudyKey], Sequence[Sibling]]

USUAL_STOP = 30
"""Measurements after which ``expected_gain`` is usually small: 16 where other batch sizes are
known, 32 and 36 where nothing is (early stops in benchmarks/samplers/README.md)."""
_LOOK_AGAIN = 2
"""Siblings are read again when the study has so many times the measurements it had: siblings
that are tuned at the same time teach too, and own measurements soon tell more."""
_AT_LEAST = 8
_GROWN = 1.2
"""Nothing is learnt anew from siblings that have not so many times the measurements they had."""


class TransferSampler(SurrogateSampler):
    """A ``SurrogateSampler`` over a space that learns what the study is about when first asked.

    A study without our key (``store.open_study`` writes it) is sampled by its knobs alone.
    """

    def __init__(
        self,
        space: Space,
        seed: int,
        *,
        history: History | None = None,
        prior_us: Sequence[float] | None = None,
        sms: int = SMS,
        footprints: Footprints | None = None,
    ) -> None:
        """``history`` finds a key's siblings; it is called now and then, not for each trial.
        ``prior_us`` is a guess for each config of ``space.configs``, of which only the ratios
        count. ``sms`` are the device's. ``footprints`` tells what was compiled by now, and how
        well."""
        super().__init__(candidates_of([config.as_keys() for config in space.configs]), seed)
        self._space = space
        self._history = history
        self._prior_us = prior_us
        self._sms = sms
        self._footprints = footprints
        self._key: StudyKey | None = None
        self._learnt_from = 0
        self._next_look = 0

    def _prepare(self, study: Study, trials: list[FrozenTrial]) -> None:
        if self._footprints is not None and (compiled := self._footprints()):
            self._weigh(weights(compiled, len(self._candidates)))
        measured = sum(trial.state in MEASURED for trial in trials)
        if measured < self._next_look:
            return
        is_new = self._key is None
        self._key = self._key or _key_of(study)
        self._next_look = max(_LOOK_AGAIN * measured, _AT_LEAST)
        if self._key is None:
            return
        known = self._history(self._key) if self._history else ()
        lessons = sum(len(sibling.configs) for sibling in known)
        if is_new or lessons > _GROWN * self._learnt_from:
            self._learnt_from = lessons
            self._learn(self._key, known)

    def _learn(self, key: StudyKey, known: Sequence[Sibling]) -> None:
        subject = Subject(key.problem, key.device, self._space.configs, self._sms)
        prior = sibling_prior(subject, known, static_us=self._prior_us, seed=self._seed)
        physics = features(key.problem, key.device, self._space.configs, self._sms)
        self._informed(candidates_of(self._candidates.rows, physics), prior)


def _key_of(study: Study) -> StudyKey | None:
    stored = study.user_attrs.get("key")
    return None if stored is None else StudyKey.from_json(stored)
