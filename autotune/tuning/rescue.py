"""A storage that was lost under a run: noticed, and what the run still knows is written anew."""

from __future__ import annotations

import shlex
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from optuna.samplers import BaseSampler, RandomSampler
from optuna.trial import FrozenTrial, create_trial

from autotune.errors import AutotuneError, StorageLostError
from autotune.settings import RunSettings
from autotune.shown import counted, shown
from autotune.spec.measurement import Measurement
from autotune.studies.outcome import Outcome, TrialResult
from autotune.studies.storage.open import opened
from autotune.studies.storage.protocol import Asked
from autotune.studies.storage.retry import STORAGE_ERRORS
from autotune.studies.storage.url import ServerAddress, parse_address
from autotune.studies.storage.watch import StorageWatch
from autotune.studies.study_attributes import write_finalists
from autotune.studies.study_record import open_study
from autotune.studies.trial_record import TrialRecord, distributions, ending
from autotune.tuning.observer import RunObserver
from autotune.tuning.open_studies import study_attributes
from autotune.tuning.tuning_study import TuningStudy

_LOOK_S, _SHARE = 2.0, 20
"""Seconds between two looks, or so many times as long as one takes."""


class StorageGuard(RunObserver):
    """Ends a run, by StorageLostError, once its storage is not the one that was opened."""

    def __init__(
        self,
        storage: str,
        watch: StorageWatch,
        studies: Sequence[TuningStudy],
        settings: RunSettings,
    ) -> None:
        self._storage, self._watch = storage, watch
        self._studies, self._settings = studies, settings
        self._names = {study.key.study_name for study in studies}
        self.look()

    def tick(self) -> None:
        if time.monotonic() >= self._next:
            self.look()

    def finals_measured(self, study: TuningStudy) -> None:
        self.tick()

    def look(self) -> None:
        """Raises StorageLostError where the storage is lost; what is known is in another then."""
        began = time.monotonic()
        fault = self._watch.fault(self._names)
        if fault is not None:
            raise StorageLostError(self._words(fault))
        ended = time.monotonic()
        self._next = ended + max(_LOOK_S, _SHARE * (ended - began))

    @contextmanager
    def judging(self) -> Iterator[None]:
        """Look when all went well, and where a storage's error ends the work: the file's fate is
        its cause, and what else is said of it is not true."""
        try:
            yield
        except StorageLostError:
            raise
        except (AutotuneError, *STORAGE_ERRORS):  # workers that died of it, too
            self.look()
            raise
        self.look()

    def _words(self, fault: str) -> str:
        name = parse_address(self._storage).public
        count = sum(len(study.measured) for study in self._studies)
        try:
            path = write_rescue(self._storage, self._studies, self._settings)
        except (AutotuneError, OSError, *STORAGE_ERRORS) as error:
            kept = f"none of them could be written elsewhere: {error}"
        else:
            kept = (
                f"they are in {path} now. Go on with 'autotune resume --storage "
                f"{shlex.quote(str(path))}', or from a backup"
            )
        return shown(
            f"the storage {name} {fault} while the run used it: whatever else was in it is gone, "
            f"and trials in work are. This run knew {counted(count, 'result')} of "
            f"{counted(len(self._studies), 'study', 'studies')}; {kept}"
        )


def write_rescue(storage: str, studies: Sequence[TuningStudy], settings: RunSettings) -> Path:
    """Write every measurement that the run knows into a new SQLite file; return its path: beside
    the storage's file, or in the current folder. Raises StorageError and OSError."""
    address = parse_address(storage)
    place = Path("autotune.db") if isinstance(address, ServerAddress) else address.path
    stem = place.stem.partition("-rescue-")[0]
    name = f"{stem}-rescue-{time.strftime('%Y%m%d-%H%M%S')}.db"
    path = next((p for p in (place.with_name(name), Path(name)) if p.parent.is_dir()), Path(name))
    with opened(str(path), create=True) as rescue:
        for study in studies:
            sampler: BaseSampler = RandomSampler()
            attrs = study_attributes(study.plan, settings)
            kept = open_study(rescue, study.key, sampler, attrs)
            records = sorted(study.measured, key=lambda record: record.trial_number)
            kept.add_trials([_trial(study, r) for r in records if r.config in study.space])
            if study.finalists:
                write_finalists(kept, study.finalists, len(records), study.robust)
    return path.absolute()


def _trial(study: TuningStudy, record: TrialRecord) -> FrozenTrial:
    outcome = Outcome.OK if record.complete else Outcome.PRUNED
    measurement = Measurement(record.samples_us, "", record.up_us, record.down_us, record.routings)
    asked = Asked(0, record.trial_number, record.config)
    end = ending(asked, TrialResult(outcome, measurement), None)
    return create_trial(
        state=end.state,
        value=record.geomean_us,
        params=record.config.as_keys(),
        distributions=dict(distributions(study.space)),
        user_attrs=dict(end.user_attrs),
    )
