"""The loss of leaving a batch size out of an engine file: the engine then takes the nearest key."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from autotune.backends.estimate.model import model_us
from autotune.backends.hardware import known_spec
from autotune.backends.routed_rows import routed_rows
from autotune.errors import DeviceError
from autotune.report.layers import TunedLayer, TunedSize, result_for, time_of
from autotune.routing.draw import drawable
from autotune.spec.config import AnyConfig, Config

_ROUTINGS, _SEED = 3, 0
"""Instances for the model's guess; its error is larger than what more of them would change."""


@dataclass(frozen=True, slots=True)
class KeyLoss:
    """The loss of a tuned batch size if the engine file had no key for it."""

    tokens: int
    neighbour: int
    """The nearest other key, as both engines look it up: ties go to the smaller."""
    loss: float | None
    """Time of its config over the best's, less 1; None where neither measured nor modelled."""
    is_measured: bool
    """False where the static time model guessed ``loss``."""


def nearest_losses(layer: TunedLayer, engine: str) -> list[KeyLoss]:
    """Return a row for each batch size with a winner, where there are at least two."""
    return list(_rows([p for p in layer.sizes if _winner(p, engine) is not None], engine))


def _rows(sizes: list[TunedSize], engine: str) -> Iterator[KeyLoss]:
    for size in sizes if len(sizes) > 1 else ():
        others = [other for other in sizes if other is not size]
        other = min(others, key=lambda o: (abs(o.tokens - size.tokens), o.tokens))
        own, foreign = _winner(size, engine), _winner(other, engine)
        assert own is not None
        assert foreign is not None
        measured = _measured(size, engine, own, foreign)
        loss = _modelled(size, own, foreign) if measured is None else measured
        yield KeyLoss(size.tokens, other.tokens, loss, is_measured=measured is not None)


def _winner(size: TunedSize, engine: str) -> AnyConfig | None:
    result = result_for(size, engine)
    return result.winner.config if result is not None and result.winner else None


def _measured(size: TunedSize, engine: str, own: AnyConfig, foreign: AnyConfig) -> float | None:
    if own == foreign:
        return 0.0
    result = result_for(size, engine)
    assert result is not None
    ours, theirs = time_of(result, own), time_of(result, foreign)
    return None if ours is None or theirs is None else theirs / ours - 1


def _modelled(size: TunedSize, own: AnyConfig, foreign: AnyConfig) -> float | None:
    spec = known_spec(size.study.key.device.name)
    if spec is None or not isinstance(own, Config) or not isinstance(foreign, Config):
        return None
    if size.problem != drawable(size.problem):
        return None
    rows = [routed_rows(size.problem, instance, _SEED) for instance in range(_ROUTINGS)]
    try:
        ours, theirs = np.median(model_us(size.problem, [own, foreign], spec, rows), axis=0)
    except DeviceError:
        return None
    return float(theirs / ours - 1)
