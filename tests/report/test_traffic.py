"""Gains over the steps of a server: each batch size counts by its time."""

from __future__ import annotations

from dataclasses import replace

import pytest
from finished_run import Finished  # type: ignore[import-not-found]

from autotune.report.html.layer_section import layer_section
from autotune.report.layers import TunedLayer, layers_of, speedup_of
from autotune.report.rows import result_rows
from autotune.report.traffic import shares_of_layer, traffic_gains
from autotune.tuning.stored_results import shares_of, stored_results

WEIGHTS = {"batch_sizes": [1, 64], "batch_weights": [0.9, 0.1]}


@pytest.fixture
def layer(finished: Finished) -> TunedLayer:
    """A layer whose run was told of a server."""
    studies = []
    for study in finished.studies():
        settings = dict(study.attrs.settings)
        settings["model"] = {**settings["model"], **WEIGHTS}
        studies.append(replace(study, attrs=study.attrs.with_settings(settings)))
    return layers_of(studies)[0]


def test_time_is_what_adds_up(layer: TunedLayer) -> None:
    results = [result for size in layer.sizes for result in size.results]
    gains = traffic_gains(results, shares_of_layer(layer.studies))
    gain = {gain.engine.name: gain for gain in gains}
    one, many = (speedup_of(size, "sglang") for size in layer.sizes)
    assert one
    assert many
    assert one != pytest.approx(many, rel=1e-3)
    assert gain["sglang"].speedup == pytest.approx(1 / (0.9 / one + 0.1 / many))
    assert gain["sglang"].words == f"SGLang over your traffic: {gain['sglang'].speedup:.2f}×"


def test_what_was_not_timed_is_said(layer: TunedLayer) -> None:
    [result] = [r for r in layer.sizes[0].results if r.engine.name == "vllm"]
    failed = replace(layer.sizes[1].results[0], measured=(), finalists=())
    gains = traffic_gains([result, failed], {1: 0.9, 64: 0.1})
    assert [gain.share for gain in gains] == [0.9]
    assert gains[0].speedup == pytest.approx(speedup_of(layer.sizes[0], "vllm"))
    assert gains[0].words.endswith(", as far as both were timed: 90% of it")


def test_nothing_is_said_without_a_server(finished: Finished) -> None:
    [layer] = layers_of(finished.studies())
    assert shares_of_layer(layer.studies) == {}
    assert traffic_gains(layer.sizes[0].results, {}) == []
    section = layer_section(layer, [])
    assert "your traffic" not in str(section.tiles)
    assert "of the time" not in section.configs.header


def test_damaged_settings_tell_of_no_server(layer: TunedLayer) -> None:
    study = layer.sizes[0].study
    model = {**study.attrs.settings["model"], "batch_weights": [0.9]}
    attrs = study.attrs.with_settings({**study.attrs.settings, "model": model})
    assert shares_of(replace(study, attrs=attrs)) == {}


def test_the_page(layer: TunedLayer) -> None:
    section = layer_section(layer, [])
    assert "for vLLM over your traffic (100% of its time)" in str(section.tiles)
    assert section.configs.header[-2:] == ["of the time", "config"]
    assert {row[-2] for row in section.configs.rows} == {"90.0%", "10.0%"}


def test_rows_of_a_layer_have_the_shares_of_one_server(layer: TunedLayer) -> None:
    first, second = layer.studies[:2]
    settings = dict(second.attrs.settings)
    settings["model"] = {**settings["model"], "batch_sizes": [64], "batch_weights": [1.0]}
    studies = [first, replace(second, attrs=second.attrs.with_settings(settings))]
    rows = result_rows([(study, r) for study in studies for r in stored_results(study)])
    assert [row.share_of_time for row in rows] == [0.9, 0.9, 0.1, 0.1]
