"""What a storage says of finished work."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace

import pytest
from trials import ask, tell  # type: ignore[import-not-found]

from autotune.spec.config import Config
from autotune.spec.device import Device, DeviceKind, Target
from autotune.spec.measurement import Measurement
from autotune.spec.problem import KernelMode, Problem
from autotune.studies.key import StudyKey
from autotune.studies.outcome import Outcome, TrialResult
from autotune.studies.search.samplers import SAMPLERS
from autotune.studies.space import Space
from autotune.studies.storage.open import open_storage
from autotune.studies.study_record import open_study, stored_studies
from autotune.tuning.stored_results import newest

H200 = Device(DeviceKind.CUDA, "NVIDIA H200", Target("cuda", 90), 232448, "3.6.0", "layer, 1")
SPACE = Space([Config(16, 32, 64, 1, 4, 3)])


def _tuned(
    database: str,
    tokens: int,
    device: Device,
    engines: Sequence[str] = ("sglang", "vllm"),
    *,
    gated: bool = True,
    kernel: KernelMode = KernelMode.FUSED,
    trials: int = 1,
) -> None:
    problem = Problem(8, 2, 512, 256, tokens, gated=gated, kernel=kernel)
    key = StudyKey(problem, device, SPACE.fingerprint)
    storage = open_storage(database, create=True)
    attrs = {"model": "m", "engines": engines, "target_trials": trials}
    study = open_study(storage, key, SAMPLERS["grid"](SPACE, 0), attrs)
    tell(study, ask(study, SPACE), TrialResult(Outcome.OK, Measurement((1.0,), "test")), None)


@pytest.mark.parametrize("order", [("layer, 1", "layer, 2"), ("layer, 2", "layer, 1")])
def test_of_studies_that_differ_in_method_the_last_one_counts(
    database: str, order: tuple[str, str], caplog: pytest.LogCaptureFixture
) -> None:
    """A newer version measures otherwise: one file must not mix what both found."""
    for method in order:
        for tokens in (1, 64):
            _tuned(database, tokens, replace(H200, method=method))
    studies = stored_studies(open_storage(database, create=False))
    assert len(studies) == 4
    with caplog.at_level(logging.WARNING):
        kept = newest(studies)
    assert [study.key.device.method for study in kept] == [order[1]] * 2
    assert f"left out: studies timed otherwise ({order[0]}, --kernel fused)" in caplog.text


@pytest.mark.parametrize("gated", [True, False])
def test_one_file_holds_no_entries_of_experts_with_a_gate_and_without(
    database: str, gated: bool
) -> None:
    """Older versions took every expert to have one; file names do not tell."""
    for order in (not gated, gated):
        _tuned(database, 1, H200, gated=order)
    [kept] = newest(stored_studies(open_storage(database, create=False)))
    assert kept.key.problem.gated is gated


@pytest.mark.parametrize("order", [list(KernelMode), list(KernelMode)[::-1]])
def test_of_one_config_for_both_gemms_and_of_pairs_the_last_one_counts(
    database: str, order: Sequence[KernelMode], caplog: pytest.LogCaptureFixture
) -> None:
    for kernel in order:
        _tuned(database, 64, H200, kernel=kernel)
    with caplog.at_level(logging.WARNING):
        [kept] = newest(stored_studies(open_storage(database, create=False)))
    assert kept.key.problem.kernel is order[1]
    assert f"--kernel {order[0].value}" in caplog.text


def test_what_was_finished_goes_before_what_was_just_begun(database: str) -> None:
    _tuned(database, 64, H200)
    _tuned(database, 64, H200, kernel=KernelMode.SEPARATE, trials=2)
    [kept] = newest(stored_studies(open_storage(database, create=False)))
    assert kept.key.problem.kernel is KernelMode.FUSED


def test_other_gpus_and_versions_are_no_older_ones(
    database: str, caplog: pytest.LogCaptureFixture
) -> None:
    for device in (H200, replace(H200, triton_version="3.5.0"), replace(H200, name="NVIDIA H100")):
        _tuned(database, 1, device)
    studies = stored_studies(open_storage(database, create=False))
    assert newest(studies) == studies
    assert not caplog.text


@pytest.mark.parametrize("own_first", [True, False])
def test_an_engines_own_kernel_counts_before_a_stand_in_for_this_engine_alone(
    database: str, own_first: bool
) -> None:
    own = replace(H200, method=f"sglang 0.5.23: {H200.method}")
    runs = [(own, ("sglang",)), (H200, ("sglang", "vllm"))]
    for device, engines in runs if own_first else runs[::-1]:
        _tuned(database, 1, device, engines)
    kept = newest(stored_studies(open_storage(database, create=False)))
    assert {study.key.device.method: study.attrs.engines for study in kept} == {
        own.method: ("sglang",),
        H200.method: ("vllm",),
    }
