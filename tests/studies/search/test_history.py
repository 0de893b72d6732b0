"""Which studies teach a new one, and how much."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import pytest

from autotune.spec.config import Config, ConfigPair
from autotune.spec.device import Device, DeviceKind
from autotune.spec.problem import Dtype, KernelMode, Problem
from autotune.studies.key import StudyKey
from autotune.studies.search.history import (
    StudyHistory,
    comparable,
    elsewhere,
    likeness,
    neighbours,
    siblings,
)
from autotune.studies.selection.finalists import Finalist
from autotune.studies.selection.select import Robust
from autotune.studies.trial_record import TrialRecord

CONFIGS = [Config(16, 32, 64, group, 4, 3) for group in range(1, 20)]


@dataclass
class Study:
    """A study with measured trials; its third config is the fastest."""

    key: StudyKey
    measured: list[TrialRecord]
    finalists: Sequence[Finalist] = field(default=())
    robust: Robust = Robust.MEAN


def study(key: StudyKey, count: int = 8, *, complete: bool = True, **changes: object) -> Study:
    times = [100.0 + abs(place - 2) for place in range(count)]
    entries = [
        TrialRecord(config, (us,), us, number, complete and number > 0)
        for number, (config, us) in enumerate(zip(CONFIGS, times, strict=False))
    ]
    return Study(replace(key, problem=replace(key.problem, **changes)), entries)


def test_a_siblings_trials_are_its_times_and_its_best(key: StudyKey) -> None:
    [found] = siblings(key, [study(key, tokens=128)])
    assert found.problem.tokens == 128
    assert found.configs == tuple(CONFIGS[:8])
    assert (found.best_us, found.winner) == (100.0, CONFIGS[2])
    assert found.geomean_us[:3] == (102.0, 101.0, 100.0)


def test_few_trials_pruned_ones_and_pairs_teach_nothing(key: StudyKey) -> None:
    pairs = study(key, tokens=128)
    pairs.measured = [
        replace(entry, config=ConfigPair(entry.config, entry.config))
        for entry in pairs.measured
        if isinstance(entry.config, Config)
    ]
    unfit = [
        study(key, 7, tokens=128),
        study(key, tokens=128, complete=False),
        pairs,
        study(key),  # itself
        study(key, tokens=128, kernel=KernelMode.SEPARATE),
    ]
    for one in unfit:
        assert siblings(key, [one]) == ()
    assert len(siblings(key, [study(key, 8, tokens=128)])) == 1


def test_the_most_alike_come_first_and_a_history_grows(key: StudyKey) -> None:
    history = StudyHistory([study(key, tokens=1024)])
    history.add([study(key, tokens=128), study(key, tokens=32, hidden=8192)])
    found = history.siblings(key)
    assert [s.problem.tokens for s in found] == [128, 32, 1024]
    assert len(list(history)) == 3


def test_neighbours_are_the_nearest_two_other_batch_sizes(key: StudyKey) -> None:
    known = [study(key, tokens=tokens) for tokens in (1024, 16, 256, 128)]
    known.append(study(key, tokens=65, intermediate=2 * key.problem.intermediate))
    assert [s.problem.tokens for s in neighbours(key, known)] == [128, 16]
    assert [s.problem.tokens for s in neighbours(key, known[:1])] == [1024]
    assert neighbours(key, known[-1:]) == []


def test_only_times_of_one_kind_are_compared(h200: Device) -> None:
    changes = {
        "kind": DeviceKind.REPLAY,
        "name": "NVIDIA H100",
        "triton_version": "3.5.0",
        "method": "other",
    }
    assert comparable(h200, replace(h200, shared_bytes=1))
    for name, value in changes.items():
        assert not comparable(h200, replace(h200, **{name: value}))


def test_another_device_teaches_nothing(key: StudyKey) -> None:
    foreign = replace(key, device=replace(key.device, triton_version="3.5.0"))
    assert siblings(foreign, [study(key, tokens=128)]) == ()


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, 1.0),
        ({"tokens": 2}, 2.718281828 ** (-1 / 2)),
        ({"top_k": 2}, 2.718281828 ** (-1 / 2)),
        ({"ep_size": 4}, 2.718281828**-1),
        ({"hidden": 2}, 2.718281828 ** (-1 / 3)),
        ({"intermediate": 0.5}, 2.718281828 ** (-1 / 3)),
        ({"experts": 2}, 2.718281828 ** (-1 / 2 - 1 / 4)),
        ({"experts": 2, "tokens": 2}, 2.718281828 ** (-1 / 4)),
        ({"experts": 0.5, "ep_size": 2}, 2.718281828 ** (-1 / 4)),
        ({"top_k": 0.5, "tokens": 2}, 1.0),
        ({"ep_size": 2, "tokens": 2}, 1.0),
    ],
    ids=str,
)
def test_likeness_is_rows_of_an_expert_first_then_sizes(
    problem: Problem, changes: dict[str, float], expected: float
) -> None:
    sizes = {name: int(getattr(problem, name) * times) for name, times in changes.items()}
    other = replace(problem, **sizes)
    assert likeness(problem, other) == pytest.approx(expected)
    assert likeness(other, problem) == pytest.approx(expected)


def test_a_gate_that_one_has_counts_as_twice_a_size(problem: Problem) -> None:
    no_gate = replace(problem, gated=False)
    assert likeness(problem, no_gate) == pytest.approx(2.718281828 ** (-1 / 3))
    assert likeness(no_gate, problem) == likeness(problem, no_gate)
    assert likeness(no_gate, no_gate) == 1


def test_another_dtype_or_scale_is_less_alike(problem: Problem) -> None:
    fp8 = replace(problem, dtype=Dtype.FP8_W8A8)
    blocks = replace(fp8, block_shape=(128, 128))
    for one, other in itertools.permutations((problem, fp8, blocks), 2):
        assert likeness(one, other) == pytest.approx(2.718281828**-1)


def test_the_same_layer_on_another_kernel_is_worth_its_best_config(key: StudyKey) -> None:
    other = study(key)
    other.key = replace(key, device=replace(key.device, method="vllm 1: whole layer"))
    assert elsewhere(key, [study(key), other]) == [CONFIGS[2]]
    assert elsewhere(key, [replace(other, measured=other.measured[:7])]) == []
    assert siblings(key, [other]) == ()
    shared = study(key, experts=9, top_k=3, fused_shared_experts=1)
    shared.key = replace(shared.key, device=other.key.device)
    like = replace(key, problem=replace(key.problem, experts=8, top_k=2))
    assert elsewhere(like, [shared]) == [CONFIGS[2]]


def test_another_size_gpu_or_compiler_is_another_matter(key: StudyKey) -> None:
    method = "vllm 1: whole layer"
    larger = study(key, tokens=128)
    larger.key = replace(larger.key, device=replace(key.device, method=method))
    newer = study(key)
    newer.key = replace(key, device=replace(key.device, method=method, triton_version="9.9.9"))
    assert elsewhere(key, [larger, newer]) == []
