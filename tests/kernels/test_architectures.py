"""Every dtype on every architecture, compiled without a GPU: the matrix unit that is meant."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from autotune.spec.problem import Dtype

PROBE = Path(__file__).parent / "arch_probe.py"
PROCESSES = (("80", "89", "gfx942"), ("90", "100"))
"""Architectures that each compiles: about the same work."""
SIZES = ("smallest", "typical", "largest")

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
    """What the probes compiled, by architecture; they run side by side."""
    environment = {
        **{name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"},
        "TRITON_CACHE_DIR": str(tmp_path_factory.mktemp("triton")),
        "PYTHONPATH": str(Path(__file__).parents[2]),
    }
    probes = [
        subprocess.Popen(
            [sys.executable, str(PROBE), *targets],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for targets in PROCESSES
    ]
    answers: dict[str, Any] = {}
    for probe in probes:
        output, errors = probe.communicate()
        assert probe.returncode == 0, errors
        answers |= json.loads(output)
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
