"""Versions that measurements depend on, without importing what they are versions of."""

from __future__ import annotations

from functools import cache
from importlib import metadata


@cache
def triton_version() -> str:
    """The installed Triton's version, as "3.9.0"; "none" where it is not installed."""
    try:
        return metadata.version("triton").partition("+")[0]
    except metadata.PackageNotFoundError:
        return "none"
