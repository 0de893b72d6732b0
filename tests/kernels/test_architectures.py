"""Every dtype on every architecture, compiled without a GPU: the matrix unit that is meant."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Timer
from typing import Any

import pytest

from autotune.spec.problem import Dtype

PROBE = Path(__file__).parent / "arch_probe.py"
PROCESSES = (("80", "89", "gfx942"), ("90", "100"))
"""Architectures that each compiles: about the same work."""
SIZES = ("smallest", "128 rows")
SILENCE_S = 280.0
"""A single compile takes seconds; a probe that says nothing for so long hangs."""
pytestmark = pytest.mark.timeout(0)  # the whole of it takes as long as the machine needs

SYNC = {
    Dtype.BF16: r"mma\.sync.*bf16\.bf16",
    Dtype.FP16: r"mma\.sync.*\.f16\.f16",
    Dtype.FP32: r"mma\.sync.*tf32\.tf32",
    Dtype.FP8_W8A8: r"mma\.sync.*e4m3\.e4m3",
    Dtype.INT8_W8A8: r"mma\.sync.*s8\.s8",
    Dtype.INT8_W8A16: r"mma\.sync.*bf16\.bf16",
    Dtype.INT4_W4A16: r"mma\.sync.*bf16\.bf16",
}
"""One warp's: SM80 and SM89, and tiles of less than 64 rows later."""
# From SM90 on Triton converts fp8 to fp16 for mma.sync; it is why those tiles are swapped.
SMALL_ON_HOPPER = SYNC | {Dtype.FP8_W8A8: r"mma\.sync.*\.f16\.f16"}
WARPGROUP = {dtype: pattern.replace(r"mma\.sync", "wgmma") for dtype, pattern in SYNC.items()}
TCGEN05 = {
    **dict.fromkeys(Dtype, r"tcgen05.*kind::f16"),
    Dtype.FP32: r"tcgen05.*kind::tf32",
    Dtype.FP8_W8A8: r"tcgen05.*kind::f8f6f4",
    Dtype.INT8_W8A8: r"tcgen05.*kind::i8|mma\.sync.*s8\.s8",  # older compilers have no i8 there
}
MFMA = {
    **dict.fromkeys(Dtype, r"v_mfma_f32_\w*bf16"),
    Dtype.FP16: r"v_mfma_f32_\w*_f16",
    Dtype.FP32: r"v_mfma_f32_\w*xf32",
    Dtype.FP8_W8A8: r"v_mfma_f32_\w*fp8_fp8",
    Dtype.INT8_W8A8: r"v_mfma_i32_\w*i8",
}


def meant(arch: str, size: str) -> dict[Dtype, str]:
    if arch == "gfx942":
        return MFMA
    if arch in ("80", "89"):
        return SYNC
    if size == "smallest":
        return SMALL_ON_HOPPER
    return WARPGROUP if arch == "90" else TCGEN05


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Answers of the probes by architecture; they run side by side."""
    environment = {
        **{name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"},
        "TRITON_CACHE_DIR": str(tmp_path_factory.mktemp("triton")),
        "PYTHONPATH": str(Path(__file__).parents[2]),
    }
    with ThreadPoolExecutor(len(PROCESSES)) as pool:
        found = list(pool.map(lambda targets: answers_of(targets, environment), PROCESSES))
    return {arch: answer for answers in found for arch, answer in answers.items()}


def answers_of(targets: tuple[str, ...], environment: dict[str, str]) -> dict[str, Any]:
    """Run one probe to its end, however long it takes, as long as it gets on."""
    command = [sys.executable, str(PROBE), *targets]
    answers: dict[str, Any] = {}
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as probe:
        assert probe.stdout
        while True:
            watchdog = Timer(SILENCE_S, probe.kill)
            watchdog.start()
            line = probe.stdout.readline()
            watchdog.cancel()
            if not line:
                break
            arch, dtype, answer = json.loads(line)
            answers.setdefault(arch, {}).setdefault(dtype, {}).update(answer)
    assert probe.returncode == 0, f"{command}: exit code {probe.returncode} after {len(answers)}"
    return answers


@pytest.mark.parametrize("dtype", list(Dtype))
@pytest.mark.parametrize("arch", [arch for targets in PROCESSES for arch in targets])
def test_the_matrix_unit_multiplies(arch: str, dtype: Dtype, found: dict[str, Any]) -> None:
    compiled = found[arch][dtype.value]
    if "missing" in compiled:
        assert (arch, dtype) == ("80", Dtype.FP8_W8A8), compiled["missing"]
        return
    for size in SIZES:
        answer = compiled[size]
        assert "reason" not in answer, answer
        pattern = meant(arch, size)[dtype]
        assert answer["instructions"], answer
        assert all(re.search(pattern, name) for name in answer["instructions"]), answer
