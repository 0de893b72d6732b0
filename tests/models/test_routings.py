"""The meaning of --routing for a model."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from autotune.errors import UsageError
from autotune.models import problems as problems_file
from autotune.models.load import load_shape
from autotune.models.problems import missing_layers, routing_of
from autotune.models.shape import ModelShape
from autotune.routing import trace as recording_file
from autotune.routing.trace import LayerRows, RoutingTrace, is_known
from autotune.routing.trace_files import write_trace

SHAPE = ModelShape("tiny", "", 8, 2, 64, 64, layers=6, first_dense_layers=1)


@pytest.fixture(autouse=True)
def _forget(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recording_file, "_known", {})
    problems_file._warn_once.cache_clear()


def _written(folder: Path, layers: tuple[int, ...], rows: int = 30) -> str:
    rng = np.random.default_rng(0)
    ids = np.stack([rng.permutation(8)[:2] for _ in range(rows)]).astype(np.int32)
    table = LayerRows(ids, np.zeros(rows, np.int32))
    recording = RoutingTrace(dict.fromkeys(layers, table), "test")
    write_trace(recording, folder)
    return recording.routing


def test_a_models_own_groups() -> None:
    v3 = load_shape("deepseek-ai/DeepSeek-V3")
    assert routing_of(v3, "grouped,uniform", None, 1) == "grouped:8:4,uniform"
    assert routing_of(load_shape("deepseek-ai/DeepSeek-V2"), "grouped", None, 1) == "grouped:8:3"
    assert routing_of(v3, "grouped:16:2", None, 1) == "grouped:16:2"
    with pytest.raises(UsageError, match="unknown routing 'even'"):
        routing_of(v3, "uniform,even", None, 1)
    with pytest.raises(UsageError, match="no n_group and topk_group"):
        routing_of(load_shape("Qwen/Qwen3-30B-A3B"), "grouped", None, 1)


def test_a_recording_is_made_known_and_says_what_it_lacks(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    routing = _written(tmp_path, (1, 2, 5))
    with caplog.at_level(logging.WARNING):
        assert routing_of(SHAPE, f"uniform,{routing}", str(tmp_path), 64) == f"uniform,{routing}"
    assert is_known(routing)
    assert "lacks layers 3, 4 of tiny" in caplog.text
    assert "has 30 tokens: larger batch sizes repeat" in caplog.text


def test_missing_layers_are_known_from_the_config(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    every_second = replace(SHAPE, moe_layers=(1, 3, 5))
    for recorded, words in (((3,), "lacks layers 1, 5 of tiny: the others"), ((1, 3, 5), "")):
        caplog.clear()
        routing = _written(tmp_path / str(len(recorded)), recorded)
        routing_of(every_second, routing, str(tmp_path / str(len(recorded))), 1)
        assert words in caplog.text
        assert bool(caplog.records) == bool(words)


@pytest.mark.parametrize(
    ("layers", "shape", "words"),
    [
        ((0, 1), SHAPE, "the first 1 layers of tiny are dense"),
        ((1, 6), SHAPE, "has layer 6, but tiny has layers 0 to 5"),
        ((1, 2), replace(SHAPE, experts=4), "the model has experts 0 to 3"),
        ((1, 2), replace(SHAPE, top_k=4), "the model has top-k 4"),
    ],
)
def test_a_recording_of_another_model_is_refused(
    layers: tuple[int, ...], shape: ModelShape, words: str, tmp_path: Path
) -> None:
    routing = _written(tmp_path, layers)
    with pytest.raises(UsageError, match=words):
        routing_of(shape, routing, str(tmp_path), 1)


def test_another_recording_in_the_same_folder_is_noticed(tmp_path: Path) -> None:
    _written(tmp_path, (1, 2))
    with pytest.raises(UsageError, match="started with recorded:0123456789ab"):
        routing_of(SHAPE, "recorded:0123456789ab", str(tmp_path), 1)


@pytest.mark.parametrize(
    ("layers", "first", "last", "missing"),
    [
        ([1, 2, 3, 4, 5], 1, 5, []),
        ([1, 3, 5], 0, 5, []),  # experts in every second layer
        ([1, 3, 7], 0, 7, [5]),
        ([2, 3], 0, 4, [0, 1, 4]),
        ([4], 1, 5, [1, 2, 3, 5]),  # one layer says nothing of a distance
    ],
)
def test_missing_layers(layers: list[int], first: int, last: int, missing: list[int]) -> None:
    assert missing_layers(layers, first, last) == missing
