"""Every dtype x scale x kernel, with expert parallelism or no gate, against the reference.

Sizes are awkward. A cell that cannot run says why: ``why_not`` is the only reason to skip one.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass, replace

import pytest
from moe_cases import (
    H200,
    TILES,
    inputs_of,
    patch_what_the_interpreter_breaks,
    problem_of,
    why_broken,
)

from autotune.kernels.moe import make_buffers
from autotune.kernels.reference import moe_reference
from autotune.kernels.verify import verify
from autotune.spec.binary import Scales, gemm_shape, scales_of
from autotune.spec.config import AnyConfig, Config, ConfigPair
from autotune.spec.limits import why_no_tma
from autotune.spec.problem import Dtype, KernelMode, Problem

# Rows of padding hold garbage: what is computed from it is not stored.
pytestmark = pytest.mark.filterwarnings("ignore:(invalid|overflow).*encountered:RuntimeWarning")

SCALES: list[tuple[Dtype, dict[str, object]]] = [
    (Dtype.FP32, {}),
    (Dtype.FP16, {}),
    (Dtype.BF16, {}),
    (Dtype.FP8_W8A8, {}),
    (Dtype.FP8_W8A8, {"per_channel_quant": True}),
    (Dtype.FP8_W8A8, {"block_shape": (32, 32)}),
    (Dtype.FP8_W8A8, {"block_shape": (64, 64)}),
    (Dtype.FP8_W8A8, {"block_shape": (1, 32)}),
    (Dtype.INT8_W8A8, {"per_channel_quant": True}),
    (Dtype.INT8_W8A8, {"block_shape": (64, 32)}),
    (Dtype.INT8_W8A16, {}),
    (Dtype.INT8_W8A16, {"block_shape": (0, 32)}),
    (Dtype.INT8_W8A16, {"block_shape": (0, 32), "zero_points": True}),
    (Dtype.INT4_W4A16, {"block_shape": (0, 32)}),
    (Dtype.INT4_W4A16, {"block_shape": (0, 64), "zero_points": True}),
    (Dtype.INT4_W4A16, {"block_shape": (0, 128)}),
]
"""[128, 128] and [64, 128] are the interpreter's [64, 64] and [64, 32]: only ratios to tiles
count. N and K of both GEMMs end within a scale's block."""

WIDE = replace(TILES, block_size_n=64)
CONFIGS: dict[str, AnyConfig] = {
    "fused": WIDE,
    "separate": ConfigPair(TILES, replace(WIDE, group_size_m=1)),
    "TMA up": ConfigPair(replace(TILES, use_tma=True), TILES),
    "TMA down": ConfigPair(TILES, replace(WIDE, use_tma=True)),
    "TMA both": ConfigPair(replace(WIDE, use_tma=True), replace(TILES, use_tma=True)),
}
"""Under fp8 the wide tiles swap their operands."""

LAYERS: dict[str, dict[str, object]] = {
    "EP1": {},
    "EP4": {"experts": 3, "ep_size": 4, "ep_rank": 2},
    "no gate": {"gated": False},
}


@dataclass(frozen=True)
class Cell:
    problem: Problem
    config: AnyConfig
    name: str

    def why_not(self, device: str) -> str | None:
        uses_tma = isinstance(self.config, ConfigPair) and "TMA" in self.name
        missing = why_no_tma(self.problem, H200) if uses_tma else None
        return missing or why_broken(self.problem.dtype, device)


def cells() -> list[Cell]:
    table = itertools.product(SCALES, CONFIGS.items(), LAYERS.items())
    return [_cell(*row) for row in table]


def _cell(
    scales: tuple[Dtype, dict[str, object]],
    named: tuple[str, AnyConfig],
    layer: tuple[str, dict[str, object]],
) -> Cell:
    (dtype, changes), (name, config) = scales, named
    kernel = KernelMode.SEPARATE if isinstance(config, ConfigPair) else KernelMode.FUSED
    sizes = {"hidden": 48, "intermediate": 48, "tokens": 5, "kernel": kernel}
    problem = problem_of(dtype, **{**sizes, **changes, **layer[1]})
    words = f"{scales_of(problem).name.lower()} {problem.block_shape or ''}"
    zeros = " zero points" if problem.zero_points else ""
    return Cell(problem, config, f"{dtype.value} {words}{zeros}, {name}, {layer[0]}")


CELLS = cells()


@pytest.mark.parametrize("cell", CELLS, ids=lambda cell: cell.name)
def test_agrees_with_its_reference(
    cell: Cell, device: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if reason := cell.why_not(device):
        pytest.skip(reason)
    patch_what_the_interpreter_breaks(cell.problem.dtype, device, monkeypatch)
    inputs = inputs_of(cell.problem, device)
    verdict = verify(inputs, make_buffers(inputs), cell.config, moe_reference(inputs))
    assert verdict.is_right, verdict


def test_the_table_has_every_dtype_and_scale() -> None:
    assert {cell.problem.dtype for cell in CELLS} == set(Dtype)
    assert {scales_of(cell.problem) for cell in CELLS} == set(Scales)
    assert len({cell.name for cell in CELLS}) == len(CELLS)


@pytest.mark.parametrize("name", ["TMA up", "TMA down", "TMA both"])
def test_tma_is_left_out_for_a_reason_alone(name: str) -> None:
    """Dtypes of the table whose engines write USE_TMA run, but for bf16 here."""
    ran = {c.problem.dtype for c in CELLS if name in c.name and not c.why_not("cuda")}
    assert ran == {Dtype.BF16, Dtype.FP16, Dtype.FP8_W8A8}


def test_sizes_are_awkward() -> None:
    for cell in CELLS:
        pair = cell.config if isinstance(cell.config, ConfigPair) else None
        config: Config = pair.up if pair else cell.config  # type: ignore[assignment]
        assert cell.problem.hidden % config.block_size_k
        assert cell.problem.intermediate % config.block_size_k
        n = gemm_shape(cell.problem, "up").n
        assert n % config.block_size_n or config.block_size_n == 32
