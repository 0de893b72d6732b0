"""The section of a report about one layer: figures, charts, and the tables behind them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from statistics import fmean
from typing import Any

import numpy as np
from optuna.trial import FrozenTrial

from autotune.backends.estimate.model import model_us
from autotune.backends.hardware import known_spec
from autotune.backends.routed_rows import routed_rows
from autotune.backends.stand_in import kernel_lines
from autotune.engines import ENGINES
from autotune.errors import DeviceError
from autotune.report.html import document
from autotune.report.html.roofline import rooflines_of
from autotune.report.kept import config_words, kept_words
from autotune.report.layers import (
    TunedLayer,
    TunedSize,
    result_for,
    shipped_config,
    speedup_of,
    time_of,
)
from autotune.report.style import Picture
from autotune.report.traffic import shares_of_layer, traffic_gains
from autotune.routing.draw import drawable
from autotune.spec.config import AnyConfig, Config
from autotune.spec.device import DeviceKind
from autotune.studies.lifecycle import EndReason
from autotune.tuning.engine_output import Result

_LABEL = {
    DeviceKind.ESTIMATE: "Nothing here was measured: configs were compiled for this GPU and their "
    "times come from a model.",
    DeviceKind.REPLAY: "Replayed from a recording; nothing was measured in this run.",
}
_CONFIG = "BLOCK_SIZE_M x N x K, GROUP_SIZE_M, num_warps, num_stages."
_INTERVAL = (
    " The interval (95 %) is of the speed-up over the fastest baseline, from finalists that were "
    "measured again side by side."
)
_PRIVATE = ("output_dir", "cache_dir")
"""Settings that name folders of the machine that tuned: a report may be passed on."""
_ROUTINGS, _SEED = 3, 0
"""Instances for the model's guess; its error is larger than what more of them would change."""


def layer_section(layer: TunedLayer, pictures: Sequence[Picture]) -> str:
    """Return the section: figures first, charts, then the tables behind them."""
    label = _LABEL.get(layer.device.kind)
    return document.section(
        layer.title,
        f'<p class="label">{label}</p>' if label else "",
        *(document.paragraph(f"{line}.") for line in _kernels(layer)),
        _tiles(layer),
        *(document.figure(picture) for picture in pictures),
        *_results(layer),
        *_nearest(layer),
        *_shipped(layer),
        "<h3>Versions and settings</h3>",
        document.pairs(version_rows(layer)),
    )


def _kernels(layer: TunedLayer) -> list[str]:
    results = (result for size in layer.sizes for result in size.results)
    return kernel_lines((r.engine, r.problem, r.device) for r in results)


def _tiles(layer: TunedLayer) -> str:
    trials = [trial for size in layer.sizes for trial in size.study.trials]
    measured = sum(len(size.study.measured) for size in layer.sizes)
    tiles = [
        (f"{len(layer.sizes)}", "batch sizes"),
        (f"{measured}", f"{layer.device.kind.noun}s"),
        (f"{_wall_s(trials):.0f} s", "with a trial in work"),
    ]
    for engine in layer.engines:
        gains = [gain for size in layer.sizes if (gain := speedup_of(size, engine))]
        if gains:
            mean = math.exp(fmean(math.log(gain) for gain in gains))
            words = f"mean over {ENGINES[engine].title}'s default (largest {max(gains):.2f}×)"
            tiles.append((f"{mean:.2f}×", words))
    results = [result for size in layer.sizes for result in size.results]
    for total in traffic_gains(results, shares_of_layer(layer)):
        words = f"for {total.engine.title} over your traffic ({total.share:.0%} of its time)"
        tiles.append((f"{total.speedup:.2f}×", words))
    cells = "".join(f'<div class="tile"><b>{b}</b><span>{s}</span></div>' for b, s in tiles)
    return f'<div class="tiles">{cells}</div>'


def _wall_s(trials: Iterable[FrozenTrial]) -> float:
    """Return the seconds in which at least one of the trials was in work."""
    spans = sorted(
        (trial.datetime_start, trial.datetime_complete)
        for trial in trials
        if trial.datetime_start is not None and trial.datetime_complete is not None
    )
    total, until = timedelta(), datetime.min
    for start, end in spans:
        total += max(end - max(start, until), timedelta())
        until = max(until, end)
    return total.total_seconds()


def _results(layer: TunedLayer) -> Iterator[str]:
    has_intervals = layer.device.kind is not DeviceKind.ESTIMATE and any(
        r.winner and r.winner.speedup_interval for size in layer.sizes for r in size.results
    )
    yield "<h3>The configs</h3>"
    yield document.paragraph(f"{_CONFIG}{_INTERVAL if has_intervals else ''}")
    lines, shares = rooflines_of(layer), shares_of_layer(layer)
    header = (
        "engine",
        "config",
        "batch size",
        "µs",
        "default µs",
        "speed-up",
        *(("interval",) if has_intervals else ()),
    )
    rows = []
    for engine in layer.engines:
        for size in layer.sizes:
            for result in (r for r in size.results if r.engine.name == engine):
                winner, gain = result.winner, speedup_of(size, engine)
                interval = winner.speedup_interval if winner else None
                line = lines.get(size.tokens)
                share = f"{line.bound_us / winner.geomean_us:.0%}" if line and winner else None
                rows.append(
                    (
                        ENGINES[engine].title,
                        config_words(result.config, is_kept=result.is_kept),
                        size.tokens,
                        _us(winner.geomean_us if winner else None),
                        _us(result.default_us),
                        f"{gain:.2f}×" if gain else None,
                        *((_interval_words(interval),) if has_intervals else ()),
                        share,
                        *([f"{shares.get(size.tokens, 0):.1%}"] if shares else []),
                    )
                )
    of_time = ("of the time",) if shares else ()
    yield document.table((*header, "of the roofline", *of_time), rows, words=2)
    if kept := kept_words(result.is_kept for size in layer.sizes for result in size.results):
        yield document.paragraph(kept)


def _interval_words(interval: tuple[float, float] | None) -> str | None:
    return f"{interval[0]:.2f}–{interval[1]:.2f}" if interval else None


def _nearest(layer: TunedLayer) -> Iterator[str]:
    by_engine = {engine: nearest_losses(layer, engine) for engine in layer.engines}
    by_engine = {engine: losses for engine, losses in by_engine.items() if losses}
    if not by_engine:
        return
    yield "<h3>If a batch size had no key of its own</h3>"
    yield document.paragraph(
        "The engine takes the config of the nearest key. This is how much slower each batch size "
        "would be with its neighbour's config; ~ is a guess of the time model, where there are not "
        f"{layer.device.kind.noun}s of both."
    )
    header = ["batch size", "nearest other key", *(ENGINES[engine].title for engine in by_engine)]
    rows: dict[int, list[object]] = {}
    for losses in by_engine.values():
        for loss in losses:
            rows.setdefault(loss.tokens, [loss.tokens, loss.neighbour]).append(_loss_words(loss))
    yield document.table(header, rows.values(), words=0)


def _loss_words(loss: KeyLoss) -> str | None:
    if loss.loss is None:
        return None
    return f"{'' if loss.is_measured else '~'}{100 * loss.loss:+.1f} %"


def _shipped(layer: TunedLayer) -> Iterator[str]:
    """Yield the table of what the engines that are installed here ship for this layer."""
    rows = [
        (ENGINES[engine].title, found.path.name, str(found.config), size.tokens, found.key)
        for engine in layer.engines
        for size in layer.sizes
        if (found := shipped_config(size, engine)) is not None
    ]
    if rows:
        yield "<h3>Shipped with the installed engines</h3>"
        header = ("engine", "file", "config", "batch size", "key used")
        yield document.table(header, rows, words=3)


def _us(value: float | None) -> str | None:
    return None if value is None else f"{value:.1f}"


def version_rows(layer: TunedLayer) -> Iterator[tuple[str, object]]:
    """Yield name and value of what the run was made with, as far as its studies say."""
    device, attrs = layer.device, layer.sizes[-1].study.attrs
    yield "Model", layer.model
    yield "Layer of one rank", layer.problem.name.rpartition(" M=")[0]
    yield "Device", f"{device.kind.value}: {device.name} ({device.target})"
    yield "Triton", device.triton_version
    if device.method:
        yield "Method", device.method
    yield from attrs.machine.items()
    settings = attrs.settings
    yield "Settings", ", ".join(_words(settings))
    yield "Studies", len(layer.sizes)
    ends = [size.study.attrs.end for size in layer.sizes]
    converged = sum(end is not None and end.reason is EndReason.CONVERGED for end in ends)
    trials = settings.get("trials")
    yield "Ended early", f"{converged} of them converged before {trials} {device.kind.noun}s"


def _words(settings: Mapping[str, Any]) -> Iterator[str]:
    for name, value in settings.items():
        if isinstance(value, dict):
            yield from _words(value)
        elif name not in _PRIVATE and value not in (None, False, [], ""):
            shown = " ".join(map(str, value)) if isinstance(value, list) else value
            yield f"{name}={shown}"


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
    winners = [
        (size, result, result.winner.config)
        for size in layer.sizes
        if (result := result_for(size, engine)) is not None and result.winner
    ]
    losses = []
    for size, result, own in winners if len(winners) > 1 else ():
        others = [(other, config) for other, _, config in winners if other is not size]
        other, foreign = min(others, key=lambda o: (abs(o[0].tokens - size.tokens), o[0].tokens))
        measured = _measured(result, own, foreign)
        loss = _modelled(size, own, foreign) if measured is None else measured
        losses.append(KeyLoss(size.tokens, other.tokens, loss, is_measured=measured is not None))
    return losses


def _measured(result: Result, own: AnyConfig, foreign: AnyConfig) -> float | None:
    if own == foreign:
        return 0.0
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
