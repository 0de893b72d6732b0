"""One word for configs that users have today and nothing beat, and its count; another for those of
which nothing is known."""

from __future__ import annotations

from collections.abc import Iterable

from autotune.spec.config import AnyConfig

_MARKS = {True: " (kept)", False: "", None: " (not measured)"}


def config_words(config: AnyConfig, *, is_kept: bool | None) -> str:
    """Return a config for people, marked where it is kept, and where nothing was measured."""
    return f"{config}{_MARKS[is_kept]}"


def kept_words(is_kept: Iterable[bool | None]) -> str:
    """Return how many of the measured configs of a table are kept, as a line below it; empty for
    none."""
    each = [kept for kept in is_kept if kept is not None]
    if not any(each):
        return ""
    return (
        f"{sum(each)} of {len(each)} kept: what you have today, which nothing beat by more than "
        "the noise (estimates: by more than they err)"
    )
