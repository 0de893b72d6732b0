"""Which settings in a storage a run of this user on this machine wrote: only those say paths.

Whoever may write into a storage may write settings there, and with them folders to write to and
files to read. So a run leaves a mark of its settings in the user's cache folder, and paths in
settings without a mark are not used: files go where the caller says, or to the default.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

from autotune.api.defaults import DEFAULT_OUTPUT, user_cache
from autotune.studies.study_record import MeasuredStudy

_log = logging.getLogger(__name__)
_PATHS = ("output_dir", "cache_dir", "warm_starts", "device")
_PATHS_OF_MODEL = ("model", "topk_ids_dir", "engine_sources")
"""Settings that are, or may be, paths."""
Placed = TypeVar("Placed", bound=MeasuredStudy)


def remember(settings: Mapping[str, Any]) -> None:
    """Leave the mark of the paths in a run's settings, which are JSON."""
    mark = _mark(settings)
    try:
        mark.parent.mkdir(parents=True, exist_ok=True)
        mark.touch()
    except OSError as error:  # then its paths have to be said again
        _log.debug("%s cannot be made: %s", mark, error)


def is_own(settings: Mapping[str, Any]) -> bool:
    """True where a run of this user on this machine had the same paths."""
    return _mark(settings).exists()


def placed(studies: Iterable[Placed], output_dir: Path | None = None) -> list[Placed]:
    """Return the studies with paths that may be used: files go to ``output_dir``, without it where
    an own run's went, and those of others to the current folder's default."""
    found = []
    for study in studies:
        settings = dict(study.attrs.settings)
        if not is_own(settings):
            model = settings.get("model")
            settings |= {"output_dir": str(DEFAULT_OUTPUT.absolute()), "warm_starts": []}
            settings |= {"cache_dir": str(user_cache())}
            if isinstance(model, dict):
                settings["model"] = model | {"topk_ids_dir": None, "engine_sources": []}
        if output_dir is not None:
            settings["output_dir"] = str(output_dir.absolute())
        found.append(replace(study, attrs=study.attrs.with_settings(settings)))
    return found


def _mark(settings: Mapping[str, Any]) -> Path:
    model = settings.get("model")
    named = [settings.get(name) for name in _PATHS]
    named += [model.get(name) for name in _PATHS_OF_MODEL] if isinstance(model, dict) else []
    text = json.dumps(named)
    return user_cache() / "runs" / hashlib.sha256(text.encode()).hexdigest()[:32]
