"""One word for configs that users have today and nothing beat, and its count."""

from __future__ import annotations

from collections.abc import Iterable

from autotune.spec.config import AnyConfig


def config_words(config: AnyConfig, *, is_kept: bool) -> str:
    """Return a config for people, marked where it is kept."""
    return f"{config} (kept)" if is_kept else str(config)


def kept_words(is_kept: Iterable[bool]) -> str:
    """Return how many of the configs of a table are kept, as a line below it; empty for none."""
    each = list(is_kept)
    if not any(each):
        return ""
    return (
        f"{sum(each)} of {len(each)} kept: what you have today, which nothing beat by more than "
        "the noise (estimates: by more than they err)"
    )
