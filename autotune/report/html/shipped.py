"""What an engine that is installed here ships for a layer, and how fast that was."""

from __future__ import annotations

from autotune.engines import ENGINES, Found
from autotune.errors import EngineFileError
from autotune.report.layers import Layer, Point, result_for, time_of
from autotune.studies.pairs import completed_as_asked


def shipped_us(layer: Layer, engine: str) -> dict[int, float]:
    """Batch size → µs of the shipped config, where one is found here and was measured."""
    found = {}
    for point in layer.points:
        result, shipped = result_for(point, engine), shipped_config(point, engine)
        if result is None or shipped is None:
            continue
        config = completed_as_asked(point.problem, layer.device, shipped.config)
        time_us = time_of(result, config)
        if time_us is not None:
            found[point.tokens] = time_us
    return found


def shipped_config(point: Point, engine: str) -> Found | None:
    """The installed engine's own entry; None where it is not installed or ships none."""
    folder = ENGINES[engine].installed_config_folder()
    if folder is None:
        return None
    try:
        return ENGINES[engine].lookup(folder, point.problem, point.study.key.device, point.tokens)
    except EngineFileError:
        return None
