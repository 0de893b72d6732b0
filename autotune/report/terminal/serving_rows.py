"""Whether engines open our files where they serve, in a row for each engine and kernel."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import replace

from autotune.documents.lookups import ServingRow
from autotune.engines import Engine
from autotune.engines.kernel_choice import gpu_words
from autotune.models.shape import ModelShape
from autotune.spec.device import Device
from autotune.spec.problem import Problem


def serving_rows(
    shape: ModelShape,
    asked: Iterable[tuple[Engine, Problem, Device]],
    label: str | None = None,
    environment: Mapping[str, str] = os.environ,
) -> list[ServingRow]:
    """Return what each engine takes by itself for these problems, no two rows with the same words;
    they say the model's ``label``, of several models. ``environment`` is the server's."""
    found = (_row(engine, shape, problem, device, environment) for engine, problem, device in asked)
    rows = {row.words: row for row in found}.values()
    return [replace(row, words=f"{label}: {row.words}") for row in rows] if label else [*rows]


def _row(
    engine: Engine,
    shape: ModelShape,
    problem: Problem,
    device: Device,
    environment: Mapping[str, str],
) -> ServingRow:
    choice = engine.kernel_choice(shape, problem, device.target).under(environment)
    return ServingRow(
        engine=f"{engine.name} {engine.version}",
        gpu=gpu_words(device.target),
        kernel=choice.backend or None,
        by_itself=choice.by_itself,
        flag=choice.flag or None,
        source=str(choice.source) if choice.source else None,
        words=engine.kernel_words(choice, device.target),
    )
