"""A run as commands and ``tune`` start it: with notes for the dashboard, and a mark that its paths
are this user's."""

from __future__ import annotations

import logging

from autotune.api.own_runs import remember
from autotune.report.dashboard.artifacts import artifact_folder
from autotune.report.dashboard.note_writer import NoteWriter
from autotune.settings import RunSettings
from autotune.studies.storage.url import public_url, storage_url
from autotune.tuning import session
from autotune.tuning.observer import RunObserver
from autotune.tuning.run_report import RunReport
from autotune.tuning.workers.launcher import Launcher

_log = logging.getLogger(__name__)


def run_tuning(
    settings: RunSettings,
    storage: str,
    *observers: RunObserver,
    ray_address: str | None = None,
    is_our_process: bool = True,
) -> RunReport:
    """Tune, see ``session.run``, on this machine or on the cluster of a Ray address."""
    _log.info("looking into %s for what is done already", public_url(storage_url(storage)))
    for model in settings.models:
        remember(settings.of_model(model).as_json())
    return session.run(
        settings,
        storage,
        *observers,
        NoteWriter(artifact_folder(storage)),
        launcher=Launcher(ray_address),
        is_our_process=is_our_process,
    )
