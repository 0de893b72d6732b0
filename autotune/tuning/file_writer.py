"""A run's engine files, written while it goes on and at its end."""

from __future__ import annotations

import logging
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from autotune.engines import WrittenFile
from autotune.errors import EngineFileError
from autotune.spec.config import AnyConfig
from autotune.studies.outcome import TrialResult
from autotune.tuning.engine_output import Result, write_files
from autotune.tuning.observer import RunObserver
from autotune.tuning.tuning_study import TuningStudy

_log = logging.getLogger(__name__)
_WRITE_S = 10.0
"""Age that engine files may reach while studies are searched round-robin: a run that is killed
leaves them."""


class FileWriter(RunObserver):
    """Keeps the engine files about as good as the studies are."""

    files: tuple[WrittenFile, ...] = ()
    """The files as they were written last."""

    def __init__(self, studies: Sequence[TuningStudy], output_dir: Path) -> None:
        self._studies = studies
        self._output_dir = output_dir
        self._is_old = False
        self._written_at = time.monotonic()

    def results(self) -> list[Result]:
        return [result for study in self._studies for result in study.results()]

    def write(self, *, is_final: bool = True) -> None:
        self.files = tuple(write_files(self.results(), self._output_dir, is_final=is_final))

    def trial_told(self, study: TuningStudy, config: AnyConfig, result: TrialResult) -> None:
        self._is_old = True

    def study_ended(self, study: TuningStudy) -> None:
        self._is_old = True

    def tick(self) -> None:
        """A file that cannot be written now must not end the run: the last write will tell."""
        if not self._is_old or time.monotonic() - self._written_at < _WRITE_S:
            return
        try:
            self.write(is_final=False)
        except EngineFileError as error:
            _log.warning("%s", error)
        self._is_old, self._written_at = False, time.monotonic()


def check_output(folder: Path, flag: str = "--output-dir") -> None:
    """Raise EngineFileError, before hours of measuring, where nothing can be written."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise EngineFileError(
            f"{flag} {folder} cannot be written: {error.strerror}. Give a folder that you may write"
        ) from error
