"""A model's name or path → its shape, from JSON alone: no remote code is ever run.

Looked at in this order: a local folder or file, the catalogue (``catalogue/models.jsonl``, a model
a line), the local Hugging Face cache, the Hugging Face Hub. The catalogue comes before the cache so
that a run is the same everywhere.
"""

from __future__ import annotations

import difflib
import json
import logging
from collections.abc import Mapping
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any, cast

from autotune.errors import ModelError
from autotune.models.fields import ModelConfig
from autotune.models.parse import shape_of_config
from autotune.models.quantization import with_sidecar
from autotune.models.shape import ModelShape

logger = logging.getLogger(__name__)

_CONFIG = "config.json"
_SIDECAR = "hf_quant_config.json"  # where ModelOpt said how a checkpoint is stored until 0.31
_DEEPEST = 50  # published ones have up to six objects in each other
_HUB_TIMEOUT_S = 5.0  # a config.json is a few KB: a hub that needs longer is not reachable


def load_shape(model: str) -> ModelShape:
    """Return the shape of a local folder or config.json, of a catalogue name, or of a Hub name.

    A catalogue name may be without its organisation, and in any case. Raises ModelError for no
    such model, and for a config that is unreadable or describes no experts.
    """
    shape = shape_of_config(*_found(model.strip()))
    if shape.dense:
        logger.warning(
            "%s is a dense model: its MLP is tuned as one expert that every token visits",
            shape.name,
        )
    return shape


def load_config(model: str) -> ModelConfig:
    """Return the config that ``load_shape`` reads, with what a file beside it says. Raises
    ModelError for no such model."""
    return _found(model.strip())[1]


def _found(model: str) -> tuple[str, ModelConfig]:
    """Return a model's name and config."""
    if not model:
        raise ModelError(
            "--model is empty; it is a Hugging Face name, a folder or a config.json. "
            "The `models` command lists the names that need no network"
        )
    try:
        path = Path(model).expanduser()
    except RuntimeError as error:
        raise ModelError(f"--model {model}: there is no such user") from error
    if path.exists():
        return _load_local(path)
    if model.startswith((".", "/", "~")) or model.endswith(".json") or "\\" in model:
        raise ModelError(
            f"--model {model}: there is no such folder or file. A local model is a folder with a "
            f"{_CONFIG}, or that file itself"
        )
    known = _find_in_catalogue(model)
    if known is not None:
        return known
    cached = _from_cache(model, _CONFIG)
    if cached is not None:
        return _read(model, cached, _from_cache(model, _SIDECAR))
    file = _from_hub(model, _CONFIG)
    if file is None:
        raise _not_found(model, f"its repository on the Hugging Face Hub has no {_CONFIG}")
    return _read(model, file, _from_hub(model, _SIDECAR))


def _load_local(path: Path) -> tuple[str, ModelConfig]:
    file = path / _CONFIG if path.is_dir() else path
    if not path.is_dir() and not file.is_file():
        raise ModelError(f"--model {path}: it is neither a folder nor an ordinary file")
    if not file.is_file():
        held = ", ".join(sorted(entry.name for entry in path.iterdir())[:5]) or "nothing"
        raise ModelError(
            f"{path} is a folder without a {_CONFIG} (it holds {held}). Give the folder of a "
            f"checkpoint in the Hugging Face layout; if it is not meant, give the full name of "
            f"the model"
        )
    sidecar = file.parent / _SIDECAR
    return _read(file.absolute().parent.name, file, sidecar if sidecar.is_file() else None)


def _read(name: str, file: Path, sidecar: Path | None) -> tuple[str, ModelConfig]:
    config = _read_json(file)
    beside = {} if sidecar is None else _read_json(sidecar)
    return name, with_sidecar(config, beside)


def _read_json(file: Path) -> dict[str, Any]:
    try:
        config = json.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise ModelError(f"{file} cannot be read: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise ModelError(
            f"{file} is not JSON: {error}. Fetch the model's {_CONFIG} again, or describe the "
            f"model with --shape"
        ) from error
    if not isinstance(config, dict):
        raise ModelError(
            f"{file} holds a JSON {type(config).__name__}, not an object. Give a model's {_CONFIG}"
        )
    if _is_deeper(config, _DEEPEST):
        raise ModelError(f"{file} has objects in objects in objects, more than {_DEEPEST} deep")
    return config


def _is_deeper(config: dict[str, Any], levels: int) -> bool:
    parts: list[Any] = [config]
    for _ in range(levels):
        inner = (part.values() if isinstance(part, dict) else part for part in parts)
        parts = [part for parts in inner for part in parts if isinstance(part, (dict, list))]
    return bool(parts)


def _from_cache(model: str, name: str) -> Path | None:
    import huggingface_hub
    from huggingface_hub.errors import HFValidationError

    try:
        cached = huggingface_hub.try_to_load_from_cache(model, name)
    except HFValidationError as error:
        logger.debug("%s: %s", model, error)
        raise _not_found(model, "it is not a name that the Hugging Face Hub allows") from None
    return Path(cached) if isinstance(cached, str) else None


def _from_hub(model: str, name: str) -> Path | None:
    """Return the file, downloaded; None where the repository has no such file. Errors say all that
    helps: what the HTTP client raised, 100 lines with its causes, goes to the debug log."""
    import huggingface_hub
    from huggingface_hub import errors

    # The HTTP client's own base error, whichever client this release of the library has.
    transport_error = cast("type[Exception]", errors.HfHubHTTPError.__bases__[0])
    try:
        # A look without retries first: the download repeats for 23 s before it gives up.
        url = huggingface_hub.hf_hub_url(model, name)
        huggingface_hub.get_hf_file_metadata(url, timeout=_HUB_TIMEOUT_S)
        return Path(huggingface_hub.hf_hub_download(model, name, etag_timeout=_HUB_TIMEOUT_S))
    except errors.LocalEntryNotFoundError as error:
        logger.debug("%s: the Hub", model, exc_info=error)
        raise _not_found(model, _UNREACHED) from None
    except errors.EntryNotFoundError:
        return None
    except errors.HfHubHTTPError as error:
        logger.debug("%s: the Hub", model, exc_info=error)
        raise _not_found(model, _hub_reason(error)) from None
    except (transport_error, OSError) as error:
        logger.debug("%s: the Hub", model, exc_info=error)
        raise _not_found(model, _UNREACHED) from None


_LOG_IN = "If you may use it, log in (`hf auth login`) and try again"
_UNREACHED = "it is not in the local cache and the Hugging Face Hub could not be reached"


def _hub_reason(error: Exception) -> str:
    from huggingface_hub import errors

    if isinstance(error, errors.GatedRepoError):
        return f"the Hugging Face Hub guards it (gated). {_LOG_IN}"
    if isinstance(error, errors.RepositoryNotFoundError):
        return f"the Hugging Face Hub has no such model, or it is private. {_LOG_IN}"
    status = getattr(getattr(error, "response", None), "status_code", None)
    if status in (401, 403):
        return f"the Hugging Face Hub answers {status}, not allowed. {_LOG_IN}"
    return f"the Hugging Face Hub answers {status}" if status else _UNREACHED


def _not_found(model: str, reason: str) -> ModelError:
    close = _close_names(model)
    near = f" Close names that are known here: {', '.join(close)}." if close else ""
    return ModelError(
        f"--model {model}: not a local folder, not in the catalogue, and {reason}.{near} "
        f"Try a folder with the model's {_CONFIG}, a name that the `models` command lists, or "
        f"--shape E=..,topk=..,hidden=..,intermediate=.."
    )


def _close_names(model: str) -> list[str]:
    """Up to three known names that resemble it, with or without the organisation."""
    wanted = model.lower()
    by_key: dict[str, str] = {}
    for name in _catalogue():
        by_key[name.lower()] = name
        by_key.setdefault(name.lower().rpartition("/")[2], name)
    matches = difflib.get_close_matches(wanted, by_key, n=6, cutoff=0.6)
    bare = difflib.get_close_matches(wanted.rpartition("/")[2], by_key, n=6, cutoff=0.6)
    return list(dict.fromkeys(by_key[key] for key in matches + bare))[:3]


def catalogue_names() -> list[str]:
    """Return the name of every known model, sorted."""
    return sorted(_catalogue())


def catalogue_shapes() -> tuple[ModelShape, ...]:
    """Return every known model, sorted by name without regard to case."""
    names = sorted(_catalogue(), key=str.lower)
    return tuple(shape_of_config(name, _catalogue()[name]) for name in names)


def _find_in_catalogue(model: str) -> tuple[str, ModelConfig] | None:
    """Return the known model of this name, or of this name after the slash if only one has it.

    Upper and lower case do not matter.
    """
    wanted = model.lower()
    full = [name for name in _catalogue() if name.lower() == wanted]
    bare = [name for name in _catalogue() if name.lower().rpartition("/")[2] == wanted]
    found = full or bare
    return (found[0], _catalogue()[found[0]]) if len(found) == 1 else None


@cache
def _catalogue() -> Mapping[str, ModelConfig]:
    """Name → those fields of its published config.json that say what its experts are."""
    file = resources.files("autotune.models") / "catalogue" / "models.jsonl"
    lines = file.read_text(encoding="utf-8").splitlines()
    entries = [json.loads(line) for line in lines if line]
    return {
        entry["name"]: with_sidecar(entry["config"], entry.get(_SIDECAR, {})) for entry in entries
    }
