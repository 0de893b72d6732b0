"""Optuna autotuner for the Triton Mixture-of-Experts kernels that SGLang and vLLM serve with.

Python callers have ``tune``, ``load`` and ``check`` (docs/python.md), which are imported when they
are first used: they bring Optuna.

    cli.py          the command line: parses it, turns errors into a line and an exit code
    exit_codes.py   the exit codes: done, failed, bad input, interrupted
    settings.py     what a command was told, as frozen values, and as JSON in a storage
    errors.py       the errors that a user can cause
    extras.py       the packages that only some commands need
    nearest.py      what a misspelt word may have meant
    shown.py        any text made fit to be shown: no password, no control characters
    intervals.py    how often loops look again

CONTRIBUTING.md says what each package holds; each package's own docstring maps its files.
"""

import warnings
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from autotune.api.calls import load, tune
    from autotune.api.checks import check
    from autotune.api.progress import Progress
    from autotune.api.result import Result, StoredResult
    from autotune.engines.check import CheckReport
    from autotune.errors import AutotuneError
    from autotune.settings import ModelSettings

__all__ = [
    "AutotuneError",
    "CheckReport",
    "ModelSettings",
    "Progress",
    "Result",
    "StoredResult",
    "check",
    "load",
    "tune",
]
__version__ = "1.0.0rc1"

_HOMES = {
    "AutotuneError": "errors",
    "CheckReport": "engines.check",
    "ModelSettings": "settings",
    "Progress": "api.progress",
    "Result": "api.result",
    "StoredResult": "api.result",
    "check": "api.checks",
    "load": "api.calls",
    "tune": "api.calls",
}
"""What callers have → the module that it is from."""


if not TYPE_CHECKING:  # a checker that sees it takes any name, also a misspelt one

    def __getattr__(name: str) -> Any:
        if name not in _HOMES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        with warnings.catch_warnings():
            # Optuna's bar, which nobody shows
            warnings.filterwarnings("ignore", "IProgress not found")
            return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
