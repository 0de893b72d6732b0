"""The parts of a report about one layer."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from statistics import fmean

from autotune.engines import ENGINES
from autotune.report.html import document
from autotune.report.html.nearest_key import Nearest, nearest_losses
from autotune.report.html.result_charts import rooflines_of, speedup_of
from autotune.report.html.shipped import shipped_config
from autotune.report.layers import Layer, is_default
from autotune.report.style import Picture
from autotune.report.time_breakdown import wall_s
from autotune.report.versions import version_rows
from autotune.spec.device import DeviceKind

_LABEL = {
    DeviceKind.ESTIMATE: "Nothing here was measured: configs were compiled for this GPU and their "
    "times come from a model.",
    DeviceKind.REPLAY: "Replayed from a recording; nothing was measured in this run.",
}


def layer_section(layer: Layer, pictures: Sequence[Picture]) -> str:
    """Figures first, charts, then the tables behind them."""
    label = _LABEL.get(layer.device.kind)
    return document.section(
        layer.title,
        f'<p class="label">{label}</p>' if label else "",
        _tiles(layer),
        *(document.figure(picture) for picture in pictures),
        *_results(layer),
        *_nearest(layer),
        *_shipped(layer),
        "<h3>Versions and settings</h3>",
        document.pairs(version_rows(layer)),
    )


def _tiles(layer: Layer) -> str:
    trials = [trial for point in layer.points for trial in point.study.trials]
    measured = sum(len(point.study.measured) for point in layer.points)
    tiles = [
        (f"{len(layer.points)}", "batch sizes"),
        (f"{measured}", "measurements"),
        (f"{wall_s(trials):.0f} s", "with a trial in work"),
    ]
    for engine in layer.engines:
        gains = [gain for point in layer.points if (gain := speedup_of(point, engine))]
        if gains:
            mean = math.exp(fmean(math.log(gain) for gain in gains))
            words = f"mean over {ENGINES[engine].title}'s default (largest {max(gains):.2f}×)"
            tiles.append((f"{mean:.2f}×", words))
    cells = "".join(f'<div class="tile"><b>{b}</b><span>{s}</span></div>' for b, s in tiles)
    return f'<div class="tiles">{cells}</div>'


def _results(layer: Layer) -> Iterator[str]:
    yield "<h3>The configs</h3>"
    yield document.paragraph(
        "BLOCK_SIZE_M x N x K, GROUP_SIZE_M, num_warps, num_stages. The interval (95 %) is of the "
        "speed-up over the fastest rival, from finalists that were measured again side by side."
    )
    lines = rooflines_of(layer)
    header = ("engine", "config", "batch size", "µs", "default µs", "speed-up", "interval")
    rows = []
    for engine in layer.engines:
        for point in layer.points:
            for result in (r for r in point.results if r.engine.name == engine):
                winner, gain = result.winner, speedup_of(point, engine)
                interval = winner.speedup_interval if winner else None
                line = lines.get(point.tokens)
                share = f"{line.bound_us / winner.geomean_us:.0%}" if line and winner else None
                rows.append(
                    (
                        ENGINES[engine].title,
                        f"{result.config}{' (the default)' if is_default(result) else ''}",
                        point.tokens,
                        _us(winner.geomean_us if winner else None),
                        _us(result.default_us),
                        f"{gain:.2f}×" if gain else None,
                        f"{interval[0]:.2f}–{interval[1]:.2f}" if interval else None,
                        share,
                    )
                )
    yield document.table((*header, "of the roofline"), rows, words=2)


def _nearest(layer: Layer) -> Iterator[str]:
    by_engine = {engine: nearest_losses(layer, engine) for engine in layer.engines}
    by_engine = {engine: losses for engine, losses in by_engine.items() if losses}
    if not by_engine:
        return
    yield "<h3>If a batch size had no key of its own</h3>"
    yield document.paragraph(
        "The engine takes the config of the nearest key. This is how much slower each batch size "
        "would be with its neighbour's config; ~ is a guess of the time model, where the two were "
        "not both measured."
    )
    header = ["batch size", "nearest other key", *(ENGINES[engine].title for engine in by_engine)]
    rows: dict[int, list[object]] = {}
    for losses in by_engine.values():
        for loss in losses:
            rows.setdefault(loss.tokens, [loss.tokens, loss.neighbour]).append(_loss_words(loss))
    yield document.table(header, rows.values(), words=0)


def _loss_words(loss: Nearest) -> str | None:
    if loss.loss is None:
        return None
    return f"{'' if loss.is_measured else '~'}{100 * loss.loss:+.1f} %"


def _shipped(layer: Layer) -> Iterator[str]:
    """What the engines that are installed here ship for this layer."""
    rows = [
        (ENGINES[engine].title, found.path.name, str(found.config), point.tokens, found.key)
        for engine in layer.engines
        for point in layer.points
        if (found := shipped_config(point, engine)) is not None
    ]
    if rows:
        yield "<h3>Shipped with the installed engines</h3>"
        header = ("engine", "file", "config", "batch size", "key used")
        yield document.table(header, rows, words=3)


def _us(value: float | None) -> str | None:
    return None if value is None else f"{value:.1f}"
