"""The JSON inside engine files: reading it, and judging one entry without knowing its engine."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from autotune.errors import EngineFileError
from autotune.spec.config import KEY_OF_FIELD, Config
from autotune.spec.ranges import LAUNCHES

TILE_KEYS = ("BLOCK_SIZE_M", "BLOCK_SIZE_N", "BLOCK_SIZE_K", "GROUP_SIZE_M")
"""Keys without which no engine can launch; warps and stages are left to Triton where missing."""

SPLIT_K = "SPLIT_K"
USE_TMA = KEY_OF_FIELD["use_tma"]
CONFIG_KEYS = frozenset(KEY_OF_FIELD.values())
NUM_CTAS, GRF_MODE = "num_ctas", "grf_mode"
LAUNCH_OPTIONS = frozenset({NUM_CTAS, GRF_MODE})
"""Options of Triton's launch that a Config does not have: blocks in a cluster, and the registers
of a thread on Intel's GPUs. The engines pass them on."""

_POWERS_OF_TWO = frozenset({"BLOCK_SIZE_M", "BLOCK_SIZE_N", "BLOCK_SIZE_K", "num_warps", NUM_CTAS})
_NO_NUMBERS = {USE_TMA: (bool, "true or false"), GRF_MODE: (str, "a text")}
_MAY_BE_ZERO = frozenset({"waves_per_eu", "matrix_instr_nonkdim"})


def load_body(path: Path) -> dict[str, Any]:
    """Return the JSON object in ``path``. Raises EngineFileError for anything else, or no file."""
    try:
        if path.exists() and not (path.is_file() or path.is_dir()):  # a pipe would be waited for
            raise EngineFileError(f"{path} is no ordinary file; an engine file is JSON")
        body = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise EngineFileError(f"{path} cannot be read: {error.strerror or error}") from error
    except (ValueError, RecursionError) as error:
        raise EngineFileError(
            f"{path} is not JSON ({error}). Restore it or move it away"
        ) from error
    if isinstance(body, dict):
        return body
    raise EngineFileError(
        f"{path} holds a JSON {type(body).__name__}; an engine file is an object of token counts"
    )


def dump_body(body: Mapping[str, Any]) -> str:
    """Return the text of an engine file: four spaces and a final newline, as the engines write."""
    return json.dumps(body, indent=4) + "\n"


def as_tokens(key: str) -> int | None:
    """Return the token count that a file's key stands for, or None where ``int`` refuses it."""
    try:
        return int(key)
    except ValueError:
        return None


def nearest(keys: Iterable[int], tokens: int) -> int:
    """Return the key that engines use: smallest absolute distance, ties to the first inserted."""
    return min(keys, key=lambda key: abs(key - tokens))


def why_bad_value(key: str, value: object) -> str | None:
    """Say what is wrong with a value, whatever the problem, the device and the engine."""
    if key in _NO_NUMBERS:
        kind, what = _NO_NUMBERS[key]
        return None if isinstance(value, kind) else f"{key} is {value!r}; {what} is needed"
    if isinstance(value, bool) or not isinstance(value, int):
        return f"{key} is {value!r}; an integer is needed"
    if key == SPLIT_K and value != 1:
        return f"{key} is {value}; only 1 is launched"
    if value not in LAUNCHES and not (value == 0 and key in _MAY_BE_ZERO):
        return f"{key} is {value}; a positive number is needed, up to {LAUNCHES.most}"
    if key in _POWERS_OF_TWO and value & (value - 1):
        return f"{key} is {value}; a power of two is needed"
    return None


def faults(entry: object, known: Collection[str]) -> Iterator[str]:
    """Return every reason why an engine that takes the ``known`` keys cannot launch this entry."""
    if not isinstance(entry, Mapping):
        yield f"is {entry!r}; an object of launch keys is needed"
        return
    yield from (f"{key} is missing" for key in TILE_KEYS if key not in entry)
    for key, value in entry.items():
        if key not in known:
            yield f"{key} is not a key of its kernel, and every key is passed to the launch"
        elif reason := why_bad_value(key, value):
            yield reason


def options_of(entry: Mapping[str, Any]) -> dict[str, Any]:
    """Return what of an entry no Config holds and the launch needs: ``num_ctas: 1`` is Triton's."""
    options = {key: value for key, value in entry.items() if key in LAUNCH_OPTIONS}
    return {key: value for key, value in options.items() if (key, value) != (NUM_CTAS, 1)}


def config_of(
    entry: object, known: Collection[str] = CONFIG_KEYS | {SPLIT_K} | LAUNCH_OPTIONS
) -> Config:
    """Return the entry as a config, without ``SPLIT_K: 1`` and the launch options.

    Raises ValueError with a fault.
    """
    fault = next(faults(entry, known), None)
    if fault is not None or not isinstance(entry, Mapping):
        raise ValueError(fault)
    return Config.from_keys({key: value for key, value in entry.items() if key in CONFIG_KEYS})
