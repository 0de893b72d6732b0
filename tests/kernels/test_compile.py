"""Compiling without a GPU, in a process that Triton's interpreter has not taken over."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import defaultdict
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from moe_cases import TILES, inputs_of, problem_of

from autotune.kernels import compile
from autotune.kernels.compile import KEPT_BYTES, captured_stderr, usage_of_cubin
from autotune.kernels.gemm import moe_gemm_kernel
from autotune.kernels.moe import make_buffers, run_moe
from autotune.spec.config import ConfigPair
from autotune.spec.device import Target
from autotune.spec.limits import why_no_tma
from autotune.spec.measurement import FailureCause
from autotune.spec.problem import Dtype, KernelMode

PROBE = Path(__file__).parent / "ahead_probe.py"


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Answers of the probe, by case."""
    environment = {
        **{name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"},
        "TRITON_CACHE_DIR": str(tmp_path_factory.mktemp("triton")),
        "PYTHONPATH": str(Path(__file__).parents[2]),
    }
    probe = subprocess.run(
        [sys.executable, str(PROBE)], env=environment, capture_output=True, text=True, check=False
    )
    assert probe.returncode == 0, probe.stderr
    assert probe.stderr == ""
    answer: dict[str, Any] = json.loads(probe.stdout)
    return answer


def test_equal_keys_are_equal_binaries_and_unequal_are_not(found: dict[str, Any]) -> None:
    hashes = defaultdict(set)
    for case in found.values():
        if isinstance(case, dict) and "key" in case:
            hashes[case["key"]].add(case["hash"])
    assert all(len(same) == 1 for same in hashes.values())
    assert len({next(iter(same)) for same in hashes.values()}) == len(hashes)


@pytest.mark.parametrize(
    "case", ["down", "other batch", "other order", "one token, one choice", "expert parallel"]
)
def test_one_binary_serves(case: str, found: dict[str, Any]) -> None:
    assert found[case]["hash"] == found["up"]["hash"]


def test_a_tma_binary_serves_every_batch_size(found: dict[str, Any]) -> None:
    assert found["TMA up, other batch"]["hash"] == found["TMA up"]["hash"]


def test_tma_loads_b_of_up_and_both_of_down(found: dict[str, Any]) -> None:
    up, down = found["TMA up"], found["TMA down"]
    assert up["TMA loads"] > 0
    assert up["async copies"] > 0
    assert down["async copies"] == 0
    assert down["TMA loads"] > up["TMA loads"]
    assert found["wide"]["TMA loads"] == 0
    for case in ("TMA, block fp8", "TMA, swapped", "TMA on Blackwell"):
        assert found[case]["TMA loads"] > 0, case


@pytest.mark.parametrize("case", ["swapped", "swapped, one scale", "TMA, swapped"])
def test_swapped_fp8_tiles_of_few_rows_reach_the_warpgroup_unit(
    case: str, found: dict[str, Any]
) -> None:
    assert found[case]["wgmma"] > 0
    assert found["too narrow to swap"]["wgmma"] == 0
    buffers = 3 * (16 + 64) * 128
    assert buffers <= found[case]["resources"]["shared_bytes"] < buffers + 1024


@pytest.mark.parametrize("case", ["wide", "block fp8", "block fp8, down", "int8"])
def test_hopper_multiplies_warpgroups_from_pipelined_copies(
    case: str, found: dict[str, Any]
) -> None:
    assert found[case]["wgmma"] > 0
    assert found[case]["async copies"] > 0


@pytest.mark.parametrize("case", ["up", "Ampere", "tail", "int8 weights", "int4"])
def test_loads_are_pipelined(case: str, found: dict[str, Any]) -> None:
    assert found[case]["async copies"] > 0


@pytest.mark.parametrize("case", ["up", "down", "wide", "block fp8", "block fp8, down", "int4"])
def test_no_tile_begins_with_divisions_of_64_bits(case: str, found: dict[str, Any]) -> None:
    """Each is a subroutine before the first load, which tiles of few steps cannot hide."""
    assert found[case]["long divisions"] == 0


def test_shared_memory_is_that_of_the_stages(found: dict[str, Any]) -> None:
    assert found["wide"]["resources"]["shared_bytes"] == 3 * (64 + 64) * 64 * 2
    assert found["Ampere"]["resources"]["shared_bytes"] == 2 * (64 + 64) * 64 * 2


def test_registers_are_read_on_both_vendors(found: dict[str, Any]) -> None:
    assert 16 <= found["wide"]["resources"]["registers"] <= 255
    assert 16 <= found["CDNA3"]["resources"]["registers"] <= 512
    assert found["wide"]["resources"]["spill_bytes"] == 0


def test_a_cubin_says_what_nvidias_tool_reads_in_it(found: dict[str, Any]) -> None:
    assert len(found["usage"]) > 10
    assert [usage for usage in found["usage"] if usage["read"] != usage["said"]] == []
    assert found["spilling"]["resources"]["spill_bytes"] > 0


@pytest.mark.parametrize("content", [b"", b"\x7fELF\x02\x01", b"\x7fELF\x02\x01" + bytes(100)])
def test_what_is_no_cubin_is_refused(content: bytes) -> None:
    with pytest.raises(ValueError, match=r"cubin|section|ELF"):
        usage_of_cubin(content)


@pytest.mark.parametrize(
    ("reason", "cause"),
    [
        ("`ptxas` failed with error code -9", FailureCause.CRASH),
        ("`ptxas` raised SIGSEGV", FailureCause.CRASH),
        ("ptxas fatal: Memory allocation failure", FailureCause.MEMORY),
        ("Internal Triton PTX codegen error", FailureCause.REFUSED),
        ("no shared memory of this kind", FailureCause.REFUSED),
    ],
)
def test_that_ptxas_was_ended_says_nothing_of_the_kernel(reason: str, cause: FailureCause) -> None:
    assert compile._cause(reason) is cause


def test_a_failure_is_one_line(found: dict[str, Any]) -> None:
    assert "fp8e4nv not supported" in found["fp8 on Ampere"]["reason"]
    assert "\n" not in found["fp8 on Ampere"]["reason"]


def test_the_second_time_comes_from_the_disk(found: dict[str, Any]) -> None:
    assert found["seconds again"] < 0.5
    assert found["left in memory"] == 0


def test_the_interpreter_cannot_compile(device: str) -> None:
    if device == "cuda":
        pytest.skip("kernels are compiled in this session")
    with pytest.raises(RuntimeError, match="TRITON_INTERPRET"):
        compile.compile_gemm(problem_of(), TILES, Target("cuda", 90), "up")


@pytest.mark.gpu
@pytest.mark.parametrize("use_tma", [False, True])
@pytest.mark.parametrize("dtype", [Dtype.BF16, Dtype.FP8_W8A8])
def test_a_launch_finds_what_was_compiled_ahead(
    dtype: Dtype, use_tma: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    moe_gemm_kernel.device_caches.clear()  # what earlier tests launched
    major, minor = torch.cuda.get_device_capability()
    target = Target("cuda", 10 * major + minor)
    problem = problem_of(dtype, hidden=128, intermediate=64, kernel=KernelMode.SEPARATE)
    if dtype is Dtype.FP8_W8A8:
        problem = replace(problem, block_shape=(64, 64))
    if use_tma and why_no_tma(problem, target):
        pytest.skip("this GPU has no TMA")
    inputs, half = inputs_of(problem, "cuda"), replace(TILES, use_tma=use_tma)
    for which in ("up", "down"):
        compiled = compile.compile_gemm(problem, half, target, which)
        assert isinstance(compiled, compile.Compiled)

    def compiled_gemms() -> set[Path]:
        return set(tmp_path.rglob("moe_gemm_kernel.cubin"))

    before = compiled_gemms()
    run_moe(inputs, make_buffers(inputs), ConfigPair(half, half))
    assert before
    assert compiled_gemms() == before


def test_what_compiled_code_writes_is_kept_back(capfd: pytest.CaptureFixture[str]) -> None:
    with captured_stderr() as dump:
        os.write(2, b"error: pages of dump\n")
        assert dump() == "error: pages of dump\n"
    os.write(2, b"after\n")
    assert capfd.readouterr().err == "after\n"


def test_stderr_comes_back_after_an_exception(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ValueError, match="inside"), captured_stderr():
        raise ValueError("inside")
    os.write(2, b"after\n")
    assert capfd.readouterr().err == "after\n"


def test_a_long_dump_is_cut() -> None:
    with captured_stderr() as dump:
        os.write(2, b"x" * (3 * KEPT_BYTES))
        assert len(dump()) == KEPT_BYTES
