"""What a run was made with, as its studies say."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from autotune.report.layers import Layer
from autotune.studies.lifecycle import EndReason

_PRIVATE = ("output_dir", "cache_dir")
"""Folders of the machine that tuned: a report may be passed on."""


def version_rows(layer: Layer) -> Iterator[tuple[str, object]]:
    """Name and value; what a study does not say is left out."""
    device, attrs = layer.device, layer.points[-1].study.attrs
    yield "Device", f"{device.kind.value}: {device.name} ({device.target})"
    yield "Triton", device.triton_version
    if device.method:
        yield "Method", device.method
    yield from attrs.machine.items()
    settings = attrs.settings
    yield "Settings", ", ".join(_words(settings))
    yield "Studies", len(layer.points)
    ends = [point.study.attrs.end for point in layer.points]
    converged = sum(end is not None and end.reason is EndReason.CONVERGED for end in ends)
    trials = settings.get("trials")
    yield "Ended early", f"{converged} of them converged before {trials} measurements"


def _words(settings: Mapping[str, Any]) -> Iterator[str]:
    for name, value in settings.items():
        if isinstance(value, dict):
            yield from _words(value)
        elif name not in _PRIVATE and value not in (None, False, [], ""):
            shown = " ".join(map(str, value)) if isinstance(value, list) else value
            yield f"{name}={shown}"
