"""Which problems a run has, whose kernel is measured for them, and what a user has today."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from autotune.engines import ENGINES
from autotune.errors import NotServedError
from autotune.models.load import load_shape
from autotune.models.parse import parse_shape
from autotune.settings import ModelSettings
from autotune.spec.config import Config, ConfigPair
from autotune.spec.device import Device, DeviceKind, Target
from autotune.spec.problem import KernelMode, Problem
from autotune.tuning.jobs import Incumbent, Job, Origin, jobs_of, may_write, with_users_files

SHAPE = "E=8,topk=2,hidden=512,intermediate=256"
SETTINGS = ModelSettings(shape=SHAPE, batch_sizes=(1, 64))
PROBLEM = Problem(8, 2, 512, 256, 64)
H200 = Device(DeviceKind.CUDA, "NVIDIA H200", Target("cuda", 90), 232448, "3.6.0", "vllm 1: layer")
OWN = Config(16, 64, 64, 1, 4, 3)


def _names(jobs: list[Job]) -> list[tuple[int, str, tuple[str, ...]]]:
    return [(j.problem.tokens, j.provider, tuple(e.name for e in j.engines)) for j in jobs]


def test_engines_share_a_problem_where_one_kernel_is_measured_for_both() -> None:
    jobs = jobs_of(parse_shape(SHAPE), SETTINGS, ("sglang", "vllm"))
    assert _names(jobs) == [(m, "autotune", ("sglang", "vllm")) for m in (1, 64)]


def test_each_has_its_own_where_its_kernel_is_measured() -> None:
    jobs = jobs_of(
        parse_shape(SHAPE),
        replace(SETTINGS, batch_sizes=(64,)),
        ("sglang", "vllm"),
        providers={"vllm": "vllm", "sglang": "autotune"},
    )
    assert _names(jobs) == [(64, "autotune", ("sglang",)), (64, "vllm", ("vllm",))]


def test_what_the_engine_launches_by_itself_stands_for_our_picture_of_it(tmp_path: Path) -> None:
    job = Job(PROBLEM, (ENGINES["vllm"],), "vllm")
    pictured = [incumbent.origin for incumbent in job.incumbents(H200, tmp_path)]
    assert pictured == [Origin.DEFAULT]
    [own] = job.incumbents(H200, tmp_path, OWN)
    assert (own.origin, own.config, own.source) == (Origin.OWN, OWN, "vllm own")
    pair = ConfigPair(OWN, replace(OWN, num_warps=8))
    [own] = job.incumbents(H200, tmp_path, pair)
    assert own.config == pair  # which SGLang takes from a shipped file for the down GEMM


DEFAULT, OURS, USERS = (
    Incumbent("sglang", origin, replace(OWN, block_size_n=n))
    for origin, n in ((Origin.DEFAULT, 32), (Origin.FILE, 128), (Origin.FILE, 256))
)


@pytest.mark.parametrize(
    ("found", "stored", "known", "files"),
    [
        ([DEFAULT, USERS], {}, [], [USERS]),  # the first run
        ([DEFAULT, OURS], {}, [OURS.config], []),
        ([DEFAULT, OURS], {"sglang": USERS.config}, [OURS.config, USERS.config], [USERS]),
        ([DEFAULT, USERS], {"sglang": USERS.config}, [USERS.config], [USERS]),  # it was kept
        ([DEFAULT], {"sglang": USERS.config}, [], [USERS]),  # it is gone, or the folder another
        ([DEFAULT, USERS], {"sglang": OURS.config}, [OURS.config], [USERS]),  # they changed it
        ([DEFAULT, replace(DEFAULT, origin=Origin.FILE)], {}, [], []),  # the default was written
        ([DEFAULT], {"vllm": USERS.config}, [], []),  # of an engine that the run is not for
    ],
)
def test_an_entry_is_the_users_unless_a_run_of_the_study_measured_it(
    found: list[Incumbent],
    stored: dict[str, Config],
    known: list[Config],
    files: list[Incumbent],
) -> None:
    assert with_users_files(found, stored, known) == (DEFAULT, *files)


def test_a_pair_that_a_fused_study_wrote_is_read_as_its_up_half_and_still_ours() -> None:
    own = Incumbent("sglang", Origin.OWN, ConfigPair(OWN, replace(OWN, num_warps=8)))
    found = [Incumbent("sglang", Origin.FILE, OWN), own]
    assert with_users_files(found, {}, []) == (own,)


def test_a_pair_is_for_an_engine_that_reads_two_files() -> None:
    pair = ConfigPair(OWN, replace(OWN, num_warps=8))
    assert may_write(ENGINES["sglang"], PROBLEM, H200, pair)
    assert not may_write(ENGINES["vllm"], PROBLEM, H200, pair)
    assert may_write(ENGINES["vllm"], PROBLEM, H200, ConfigPair(OWN, OWN))


def test_an_engine_with_one_file_has_the_fused_problem() -> None:
    jobs = jobs_of(parse_shape(SHAPE), SETTINGS, ("sglang", "vllm"), KernelMode.SEPARATE)
    assert {(j.engines[0].name, j.problem.kernel.value) for j in jobs} == {
        ("sglang", "separate"),
        ("vllm", "fused"),
    }


def test_an_engine_that_refuses_the_model_has_no_job(caplog: pytest.LogCaptureFixture) -> None:
    model = "Qwen/Qwen3-235B-A22B-FP8"
    settings = ModelSettings(model=model, tp_size=8, batch_sizes=(64,))
    jobs = jobs_of(load_shape(model), settings, ("sglang", "vllm"))
    assert _names(jobs) == [(64, "autotune", ("vllm",))]
    assert "no files for SGLang" in caplog.text
    with pytest.raises(NotServedError, match="SGLang refuses"):
        jobs_of(load_shape(model), settings, ("sglang",))
