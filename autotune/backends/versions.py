"""Versions that measurements depend on, without importing what they are versions of."""

from __future__ import annotations

from functools import cache
from importlib import metadata


@cache
def triton_version() -> str:
    """The installed Triton's version, as "3.9.0"; "none" where it is not installed."""
    return package_version("triton").partition("+")[0]


def package_version(name: str) -> str:
    """With its local part, as "2.11.0+cu129"; "none" where it is not installed."""
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return "none"
