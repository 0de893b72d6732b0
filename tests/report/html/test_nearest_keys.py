"""The loss of a batch size without a key of its own: measured, else modelled, else unknown."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from types import SimpleNamespace
from typing import cast

import pytest

from autotune.engines import ENGINES
from autotune.report.html.nearest_keys import KeyLoss, nearest_losses
from autotune.report.layers import TunedLayer, TunedSize
from autotune.spec.config import AnyConfig, Config, ConfigPair
from autotune.spec.device import Device, DeviceKind, Target
from autotune.spec.problem import Problem
from autotune.studies.key import StudyKey
from autotune.studies.study_record import StoredStudy
from autotune.studies.trial_record import TrialRecord
from autotune.tuning.engine_output import Result

PROBLEM = Problem(experts=8, top_k=2, hidden=4096, intermediate=1024, tokens=1)
H200 = Device(DeviceKind.CUDA, "NVIDIA H200", Target("cuda", 90), 232448, "3.6.0")
SMALL, LARGE = Config(16, 64, 128, 1, 4, 4), Config(128, 128, 64, 16, 8, 3)


def _size(tokens: int, times: Mapping[AnyConfig, float], device: Device = H200, **changes: object):
    problem = replace(PROBLEM, tokens=tokens, **changes)
    study = SimpleNamespace(key=StudyKey(problem, device, ""))
    entries = tuple(
        TrialRecord(config, (us,), us, number, True)
        for number, (config, us) in enumerate(times.items())
    )
    result = Result(ENGINES["sglang"], problem, device, entries, ())
    return TunedSize(cast(StoredStudy, study), (result,))


def _losses(*sizes: TunedSize) -> list[KeyLoss]:
    return nearest_losses(TunedLayer(sizes), "sglang")


def test_the_neighbours_config_loses_what_was_measured() -> None:
    one = _size(1, {SMALL: 10.0, LARGE: 12.0})
    many = _size(64, {LARGE: 50.0, SMALL: 60.0})
    assert [(n.tokens, n.neighbour, n.is_measured) for n in _losses(one, many)] == [
        (1, 64, True),
        (64, 1, True),
    ]
    assert [n.loss for n in _losses(one, many)] == pytest.approx([0.2, 0.2])


def test_the_nearest_key_is_the_nearest_number_and_the_smaller_of_two() -> None:
    sizes = [_size(tokens, {SMALL: 10.0}) for tokens in (8, 16, 24, 64)]
    assert [n.neighbour for n in _losses(*sizes)] == [16, 8, 16, 24]
    assert [n.loss for n in _losses(*sizes)] == [0.0] * 4  # the same config everywhere


def test_unmeasured_is_modelled_for_a_known_gpu() -> None:
    one, many = _size(1, {SMALL: 10.0}), _size(4096, {LARGE: 50.0})
    for found in _losses(one, many):
        assert not found.is_measured
        assert found.loss is not None
        assert found.loss > 0


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (
            _size(1, {SMALL: 10.0}, replace(H200, name="some GPU")),
            _size(64, {LARGE: 50.0}, replace(H200, name="some GPU")),
        ),
        (
            _size(1, {ConfigPair(SMALL, SMALL): 10.0}),
            _size(64, {ConfigPair(LARGE, LARGE): 50.0}),
        ),
        (
            _size(1, {SMALL: 10.0}, routing="recorded:0123456789ab"),
            _size(64, {LARGE: 50.0}, routing="recorded:0123456789ab"),
        ),
    ],
    ids=["unknown GPU", "pairs", "a recording that is not at hand"],
)
def test_what_cannot_be_modelled_is_unknown_and_not_nothing(
    first: TunedSize, second: TunedSize
) -> None:
    assert _losses(first, second) == [
        KeyLoss(1, 64, None, False),
        KeyLoss(64, 1, None, False),
    ]


def test_one_batch_size_and_another_engine_have_no_neighbour() -> None:
    one, empty = _size(1, {SMALL: 10.0}), _size(64, {})
    assert _losses(one) == []
    assert _losses(one, empty) == []
    assert nearest_losses(TunedLayer((one, _size(64, {LARGE: 1.0}))), "vllm") == []
