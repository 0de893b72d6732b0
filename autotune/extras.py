"""The extras: packages that only some commands need, and the one error where they are missing."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from autotune.errors import MissingExtraError

EXTRAS: Mapping[str, tuple[str, ...]] = {
    "dashboard": ("optuna-dashboard",),
    "report": ("jinja2", "matplotlib"),
    "capture": ("accelerate", "transformers"),
    "postgres": ("psycopg", "setproctitle"),
    "ray": ("ray",),
}
"""Extra → its packages, by the names under which pip knows them."""


@contextmanager
def needed(extra: str, purpose: str) -> Iterator[None]:
    """Turn an ImportError of a package of ``extra`` into a MissingExtraError. ``purpose`` begins
    its message: what needs the package."""
    try:
        yield
    except ImportError as error:
        if (error.name or "").partition(".")[0] == "autotune":
            raise
        what = f"{error.name}, which is not installed"
        if not isinstance(error, ModuleNotFoundError):
            what = f"a package that cannot be imported: {error}"
        raise MissingExtraError(f"{purpose} needs {what}. Try {install_command(extra)}") from error


def install_command(extra: str) -> str:
    """Return the command that installs the packages of ``extra``."""
    return f"pip install 'moe-autotune[{extra}]'"
