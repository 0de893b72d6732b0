"""What a report says of one layer, as templates/layer.html.j2 lays it out."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from statistics import fmean
from typing import Any

from optuna.trial import FrozenTrial

from autotune.backends.stand_in import kernel_lines
from autotune.engines import ENGINES
from autotune.report.baseline import baseline_lines
from autotune.report.html.nearest_keys import KeyLoss, nearest_losses
from autotune.report.html.roofline import Roofline, rooflines_of
from autotune.report.html.templating import Table
from autotune.report.kept import config_words, kept_words
from autotune.report.layers import TunedLayer, shipped_config, speedup_of
from autotune.report.style import Picture
from autotune.report.terminal.run_display import seconds_words
from autotune.report.traffic import shares_of_layer, traffic_gains
from autotune.spec.device import DeviceKind
from autotune.studies.lifecycle import EndReason
from autotune.tuning.engine_output import Result
from autotune.tuning.jobs import Origin

_PRIVATE = ("output_dir", "cache_dir")
"""Settings that name folders of the machine that tuned: a report may be passed on."""


@dataclass(frozen=True, slots=True)
class LayerSection:
    """The figures, charts and tables of one layer."""

    title: str
    kind: str
    """Where times are from, as ``DeviceKind`` has it."""
    noun: str
    """What a trial is: a measurement or an estimate."""
    kernels: Sequence[str]
    """Whose kernel the times of each engine are of."""
    tiles: Sequence[tuple[str, str]]
    baselines: Sequence[str]
    """What speed-ups are over."""
    pictures: Sequence[Picture]
    has_intervals: bool
    configs: Table
    kept: str | None
    nearest: Table | None
    shipped: Table | None
    versions: Sequence[tuple[str, object]]


def layer_section(layer: TunedLayer, pictures: Sequence[Picture]) -> LayerSection:
    """Collect what the section shows."""
    results = [result for size in layer.sizes for result in size.results]
    has_intervals = _has_intervals(layer, results)
    return LayerSection(
        title=layer.title,
        kind=layer.device.kind.value,
        noun=layer.device.kind.noun,
        kernels=kernel_lines((r.engine, r.problem, r.device) for r in results),
        tiles=_tiles(layer),
        baselines=baseline_lines(
            r.engine.name for r in results if r.default_origin is Origin.DEFAULT
        ),
        pictures=pictures,
        has_intervals=has_intervals,
        configs=_configs(layer, has_intervals),
        kept=kept_words(result.is_kept for result in results),
        nearest=_nearest(layer),
        shipped=_shipped(layer),
        versions=list(version_rows(layer)),
    )


def _has_intervals(layer: TunedLayer, results: Iterable[Result]) -> bool:
    return layer.device.kind is not DeviceKind.ESTIMATE and any(
        result.winner and result.winner.speedup_interval for result in results
    )


def _tiles(layer: TunedLayer) -> list[tuple[str, str]]:
    """Return the figures above all others, each with its words."""
    trials = [trial for size in layer.sizes for trial in size.study.trials]
    measured = sum(len(size.study.measured) for size in layer.sizes)
    tiles = [
        (f"{len(layer.sizes)}", "batch sizes"),
        (f"{measured}", f"{layer.device.kind.noun}s"),
        (seconds_words(_wall_s(trials)), "with a trial in work"),
    ]
    for engine in layer.engines:
        gains = [gain for size in layer.sizes if (gain := speedup_of(size, engine))]
        if gains:
            mean = math.exp(fmean(math.log(gain) for gain in gains))
            words = f"mean over {ENGINES[engine].title}'s default (largest {max(gains):.2f}×)"
            tiles.append((f"{mean:.2f}×", words))
    results = [result for size in layer.sizes for result in size.results]
    for total in traffic_gains(results, shares_of_layer(layer.studies)):
        words = f"for {total.engine.title} over your traffic ({total.share:.0%} of its time)"
        tiles.append((f"{total.speedup:.2f}×", words))
    return tiles


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


def _configs(layer: TunedLayer, has_intervals: bool) -> Table:
    """Return the config of each engine and batch size, with how it compares."""
    lines, shares = rooflines_of(layer), shares_of_layer(layer.studies)
    header = ["engine", "batch size", "µs", "default µs", "speed-up"]
    header += ["interval"] if has_intervals else []
    header += ["of the roofline"]
    header += ["of the time"] if shares else []
    header += ["config"]
    rows = []
    for engine in layer.engines:
        for size in layer.sizes:
            for result in (r for r in size.results if r.engine.name == engine):
                row = _time_cells(result, speedup_of(size, engine))
                row += [_interval_words(result)] if has_intervals else []
                row += [_roofline_words(result, lines.get(size.tokens))]
                row += [f"{shares.get(size.tokens, 0):.1%}"] if shares else []
                row += [config_words(result.config, is_kept=result.is_kept)]
                rows.append(row)
    return Table(header, rows, texts=("engine", "config"))


def _time_cells(result: Result, gain: float | None) -> list[object]:
    winner = result.winner
    return [
        ENGINES[result.engine.name].title,
        result.problem.tokens,
        _us(winner.geomean_us if winner else None),
        _us(result.default_us),
        f"{gain:.2f}×" if gain else None,
    ]


def _interval_words(result: Result) -> str | None:
    interval = result.winner.speedup_interval if result.winner else None
    return f"{interval[0]:.2f}–{interval[1]:.2f}" if interval else None


def _roofline_words(result: Result, line: Roofline | None) -> str | None:
    return f"{line.bound_us / result.winner.geomean_us:.0%}" if line and result.winner else None


def _us(value: float | None) -> str | None:
    return None if value is None else f"{value:.1f}"


def _nearest(layer: TunedLayer) -> Table | None:
    """Return what each batch size would lose without a key of its own; None where it is alone."""
    by_engine = {engine: nearest_losses(layer, engine) for engine in layer.engines}
    by_engine = {engine: losses for engine, losses in by_engine.items() if losses}
    header = ["batch size", "nearest other key", *(ENGINES[engine].title for engine in by_engine)]
    rows: dict[int, list[object]] = {}
    for losses in by_engine.values():
        for loss in losses:
            rows.setdefault(loss.tokens, [loss.tokens, loss.neighbour]).append(_loss_words(loss))
    return Table(header, list(rows.values())) if rows else None


def _loss_words(loss: KeyLoss) -> str | None:
    if loss.loss is None:
        return None
    if loss.loss < 0:  # by less than the noise, or the model's error, else it would be the winner
        return "about 0"
    return f"{'' if loss.is_measured else '~'}{100 * loss.loss:+.1f} %"


def _shipped(layer: TunedLayer) -> Table | None:
    """Return what the engines that are installed here ship for this layer; None where nothing."""
    rows = [
        (ENGINES[engine].title, found.path.name, str(found.config), size.tokens, found.key)
        for engine in layer.engines
        for size in layer.sizes
        if (found := shipped_config(size, engine)) is not None
    ]
    header = ("engine", "file", "config", "batch size", "key used")
    return Table(header, rows, texts=("engine", "file", "config")) if rows else None


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
