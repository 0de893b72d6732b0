"""Folders of an output folder whose files were not measured on the engine's own kernel, here, or on
one that is known to rank configs alike."""

from __future__ import annotations

from collections.abc import Mapping

from autotune.spec.device import Target

ESTIMATED, REPLAYED, STAND_IN = "estimated", "replayed", "stand-in"

MEANING: Mapping[str, str] = {
    ESTIMATED: "nothing was measured: a model of the GPU chose these configs",
    REPLAYED: "a recording was replayed: nothing was measured in that run",
    STAND_IN: "measured on our kernel, which was not shown to rank configs as the engine's does",
}
"""What the files of such a folder are, as a sentence without its full stop."""

_RECORDED = Target("cuda", 90)
"""The GPUs with recorded times that the time model was compared with: Hopper's."""


def is_error_known(target: Target) -> bool:
    """True where recordings say how far the time model errs on GPUs of an architecture."""
    return target == _RECORDED


def error_words(name: str, target: Target) -> str | None:
    """Return that the time model's error on a GPU is not known; None where it is."""
    if is_error_known(target):
        return None
    return (
        f"the time model was never compared with times measured on {name.replace('_', ' ')}: its "
        "error there is not known"
    )
