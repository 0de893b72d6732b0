"""Verification must bite: wrong kernels, made by changing one line of the right one."""

from __future__ import annotations

import importlib.util
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType

import pytest
import torch
from moe_cases import TILES, inputs_of, patch_what_the_interpreter_breaks, problem_of

from autotune.kernels import activation, align, gemm, launch
from autotune.kernels.moe import make_buffers
from autotune.kernels.reference import moe_reference
from autotune.kernels.verify import TOLERANCE, relative_error, verify
from autotune.spec.config import AnyConfig, Config, ConfigPair
from autotune.spec.problem import Dtype, KernelMode, Problem

# Rows of padding hold garbage: what is computed from it is not stored.
pytestmark = pytest.mark.filterwarnings("ignore:(invalid|overflow).*encountered:RuntimeWarning")


@dataclass(frozen=True)
class Case:
    """A problem and a config that a mutant is tried on."""

    problem: Problem
    config: AnyConfig = TILES


def _with_tma(config: Config) -> Config:
    return replace(config, use_tma=True)


TOKENS = (1, 16, 40)
EVEN = {"hidden": 128, "intermediate": 64}
WIDE = replace(TILES, block_size_n=64)
PLAIN = Case(problem_of(experts=2))
NO_GATE = Case(problem_of(experts=2, gated=False))
INT8_BLOCKS = Case(problem_of(Dtype.INT8_W8A8, **EVEN, block_shape=(32, 32)))
INT8_CHANNELS = Case(problem_of(Dtype.INT8_W8A8, per_channel_quant=True))
INT4 = Case(problem_of(Dtype.INT4_W4A16, **EVEN, block_shape=(0, 32)))
INT4_ZEROS = Case(problem_of(Dtype.INT4_W4A16, **EVEN, block_shape=(0, 32), zero_points=True))
FP8_SWAPPED = Case(problem_of(Dtype.FP8_W8A8, **EVEN, block_shape=(32, 32)), WIDE)
TMA = Case(problem_of(kernel=KernelMode.SEPARATE), ConfigPair(_with_tma(TILES), _with_tma(TILES)))
TMA_DOWN = Case(problem_of(kernel=KernelMode.SEPARATE), ConfigPair(TILES, _with_tma(TILES)))
CASES = {
    "plain": PLAIN,
    "no gate": NO_GATE,
    "int8 blocks": INT8_BLOCKS,
    "int8 channels": INT8_CHANNELS,
    "int4": INT4,
    "int4 zero points": INT4_ZEROS,
    "fp8 swapped": FP8_SWAPPED,
    "TMA": TMA,
    "TMA down": TMA_DOWN,
}


@dataclass(frozen=True)
class Mutant:
    """``old`` becomes ``new`` in the source of a kernel; {} in ``new`` is ``old``."""

    case: Case
    old: str
    new: str
    source: ModuleType = gemm
    from_tokens: int = 1
    """Fewest tokens at which its result is another."""


KERNELS = {
    gemm: (launch, "moe_gemm_kernel"),
    align: (align, "place_kernel"),
    activation: (activation, "activation_kernel"),
}
"""Source of a kernel → the module that launches it, and its name."""
MUTANTS = {
    "swapped experts": Mutant(PLAIN, "tl.load(expert_ids_ptr + pid_m)", "(1 - {})"),
    "dropped K tail": Mutant(
        PLAIN, "range(0, K, BLOCK_SIZE_K)", "range(0, K - BLOCK_SIZE_K + 1, BLOCK_SIZE_K)"
    ),
    "no routing weight": Mutant(PLAIN, "mul_routed_weight != 0", "mul_routed_weight > 1"),
    "wrong A row": Mutant(PLAIN, "slots // top_k", "slots // (top_k + 1)"),
    "wrong column": Mutant(
        PLAIN, "columns[None, :] * stride_bn", "((columns + 1) % N)[None, :] * stride_bn"
    ),
    "last columns left out": Mutant(
        PLAIN, "(out_columns < N)[None, :]", "(out_columns < N - 1)[None, :]"
    ),
    "last block left out": Mutant(
        PLAIN, "pid_m * BLOCK_SIZE_M >= tl.load", "(pid_m + 1) * BLOCK_SIZE_M >= tl.load"
    ),
    "off-by-one padding": Mutant(
        PLAIN, "num_slots + lanes * 0", "num_slots - 1 + lanes * 0", align, 40
    ),
    "first K scale for all": Mutant(INT8_BLOCKS, "b_scale_ptrs + start // GROUP_K", "b_scale_ptrs"),
    "first A scale for all": Mutant(INT8_BLOCKS, "a_scale_ptrs + start // GROUP_K", "a_scale_ptrs"),
    "first N scale for all": Mutant(INT8_BLOCKS, "pid_n * BLOCK_SIZE_N // GROUP_N", "0"),
    "first expert's scale": Mutant(INT8_CHANNELS, "expert * stride_bse", "0"),
    "first row's scale": Mutant(
        INT8_CHANNELS, "a_scale_ptr + rows * stride_asm", "a_scale_ptr + rows * 0", from_tokens=16
    ),
    "scale of another group": Mutant(
        INT4, "(start + ks) // GROUP_K", "(0 * start + ks) // GROUP_K"
    ),
    "swapped nibbles": Mutant(INT4, "(ks % 2) * 4", "(1 - ks % 2) * 4"),
    "no zero points": Mutant(INT4_ZEROS, "b -= zero.to(tl.float32)", "b -= 8"),
    "another column's zero point": Mutant(INT4_ZEROS, "(columns % 2) * 4", "(1 - columns % 2) * 4"),
    "first expert's zero points": Mutant(INT4_ZEROS, "expert * zero_columns", "0 * zero_columns"),
    "swapped without B's scale": Mutant(
        FP8_SWAPPED, "b_scale[:, None] * a_scale[None, :]", "a_scale[None, :]"
    ),
    "swapped and not swapped back": Mutant(
        FP8_SWAPPED,
        "accumulator = accumulator.T",
        "accumulator = accumulator.reshape(BLOCK_SIZE_M, BLOCK_SIZE_N)",
    ),
    "unsorted A under TMA": Mutant(
        TMA_DOWN, "source = tl.load(ids_ptr + row).to(tl.int64)", "source = row", activation
    ),
    "the gate in place of up": Mutant(PLAIN, "tl.load(x_ptrs + N,", "tl.load(x_ptrs,", activation),
    "relu not squared": Mutant(
        NO_GATE, "tl.maximum(up, 0.0) * up", "tl.maximum(up, 0.0)", activation
    ),
    "rows of a gate where there is none": Mutant(
        NO_GATE, "x_ptr + source * N", "x_ptr + source // 2 * 2 * N", activation
    ),
    "TMA of another expert": Mutant(TMA, "[expert.to(tl.int32),", "[0 * expert.to(tl.int32),"),
    "TMA of the next columns": Mutant(
        TMA, "pid_n * BLOCK_SIZE_N, start]", "pid_n * BLOCK_SIZE_N + 1, start]"
    ),
    "TMA of the next rows": Mutant(
        TMA, "a_desc.load([pid_m * BLOCK_SIZE_M,", "a_desc.load([pid_m * BLOCK_SIZE_M + 1,"
    ),
}


def is_right(case: Case, tokens: int, device: str, monkeypatch: pytest.MonkeyPatch) -> bool:
    patch_what_the_interpreter_breaks(case.problem.dtype, device, monkeypatch)
    inputs = inputs_of(replace(case.problem, tokens=tokens), device)
    return verify(inputs, make_buffers(inputs), case.config, moe_reference(inputs)).is_right


def mutant_of(mutant: Mutant, folder: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The mutant's source with one expression replaced, loaded from ``folder``."""
    source = Path(str(mutant.source.__file__)).read_text(encoding="utf-8")
    assert mutant.old in source
    path = folder / "mutant_source.py"
    path.write_text(source.replace(mutant.old, mutant.new.format(mutant.old)), encoding="utf-8")
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, path.stem, module)  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("tokens", TOKENS)
@pytest.mark.parametrize("name", MUTANTS)
def test_a_wrong_kernel_is_caught(
    name: str, tokens: int, device: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mutant = MUTANTS[name]
    if tokens < mutant.from_tokens:
        pytest.skip("padding that hits nothing, or rows with about the same scale")
    module = mutant_of(mutant, tmp_path, monkeypatch)
    user, kernel = KERNELS[mutant.source]
    monkeypatch.setattr(user, kernel, getattr(module, kernel))
    assert not is_right(mutant.case, tokens, device, monkeypatch)


@pytest.mark.parametrize("tokens", TOKENS)
@pytest.mark.parametrize("name", CASES)
def test_the_mutants_are_right_before_they_are_changed(
    name: str, tokens: int, device: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert is_right(CASES[name], tokens, device, monkeypatch)


def test_an_output_left_out_is_caught() -> None:
    reference = torch.ones(4, 8)
    output = reference.clone()
    output[2, 3] = float("nan")
    assert relative_error(output, reference) == float("inf")


def test_the_error_of_a_row_is_over_its_own_size() -> None:
    reference = torch.tensor([[1.0, -1.0], [100.0, -100.0]]).repeat(1, 32)
    output = reference.clone()
    output[0] *= 1.5
    assert relative_error(output, reference) == pytest.approx(0.5)


def test_the_error_of_a_column_is_over_its_own_size() -> None:
    reference = torch.ones(64, 128)
    reference[:, 5] = 0.1
    output = reference.clone()
    output[:, 5] = 0.2
    assert relative_error(output, reference) == pytest.approx(1)


def test_the_last_columns_count_where_pieces_leave_some() -> None:
    reference = torch.ones(1, 130)
    output = reference.clone()
    output[0, -1] = 9
    assert relative_error(output, reference) == pytest.approx(1)


def test_a_row_of_zeros_must_stay_zero() -> None:
    reference = torch.tensor([[0.0, 0.0], [1.0, -1.0]])
    assert relative_error(reference, reference) == 0
    assert relative_error(reference + 0.1, reference) > 1


def test_every_dtype_has_a_tolerance() -> None:
    assert set(TOLERANCE) == set(Dtype)
