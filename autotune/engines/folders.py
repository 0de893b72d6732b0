"""Folders of an output folder whose files were not measured on the engine's own kernel, here, or on
one that is known to rank configs alike."""

from __future__ import annotations

from collections.abc import Mapping

ESTIMATED, REPLAYED, STAND_IN = "estimated", "replayed", "stand-in"

MEANING: Mapping[str, str] = {
    ESTIMATED: "nothing was measured: a model of the GPU chose these configs",
    REPLAYED: "a recording was replayed: nothing was measured in that run",
    STAND_IN: "measured on our kernel, which was not shown to rank configs as the engine's does",
}
"""What the files of such a folder are, as a sentence without its full stop."""
