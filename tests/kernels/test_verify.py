"""Verification must bite: wrong kernels, made by changing one line of the right one."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch
from moe_cases import TILES, inputs_of, problem_of

from autotune.kernels import gemm, moe
from autotune.kernels.moe import make_buffers
from autotune.kernels.problem import Dtype, Problem
from autotune.kernels.twins import moe_twin
from autotune.kernels.verify import TOLERANCE, relative_error, verify

INT8_BLOCKS = problem_of(Dtype.INT8_W8A8, hidden=128, intermediate=64, block_shape=(32, 32))
INT8_CHANNELS = problem_of(Dtype.INT8_W8A8, per_channel_quant=True)
INT4 = problem_of(Dtype.INT4_W4A16, hidden=128, intermediate=64, block_shape=(0, 32))
PLAIN = problem_of(experts=2)

MUTANTS = {
    "swapped experts": (PLAIN, "tl.load(expert_ids_ptr + pid_m)", "(1 - {})"),
    "dropped K tail": (PLAIN, "tl.cdiv(K, BLOCK_SIZE_K)", "K // BLOCK_SIZE_K"),
    "no routing weight": (PLAIN, "num_valid_tokens * mul_routed_weight", "0"),
    "wrong A row": (PLAIN, "slots // top_k", "slots // (top_k + 1)"),
    "wrong column": (
        PLAIN,
        "columns[None, :] * stride_bn",
        "((columns + 1) % N)[None, :] * stride_bn",
    ),
    "last columns left out": (
        PLAIN,
        "(out_columns < N)[None, :]",
        "(out_columns < N - 1)[None, :]",
    ),
    "first K scale for all": (INT8_BLOCKS, "b_scale_ptrs + start // GROUP_K", "b_scale_ptrs"),
    "first A scale for all": (INT8_BLOCKS, "a_scale_ptrs + start // GROUP_K", "a_scale_ptrs"),
    "first N scale for all": (INT8_BLOCKS, "pid_n * BLOCK_SIZE_N // GROUP_N", "0"),
    "first expert's scale": (INT8_CHANNELS, "expert * stride_bse", "0"),
    "first row's scale": (
        INT8_CHANNELS,
        "a_scale_ptr + rows * stride_asm",
        "a_scale_ptr + rows * 0",
    ),
    "scale of another group": (INT4, "(start + ks) // GROUP_K", "(0 * start + ks) // GROUP_K"),
    "swapped nibbles": (INT4, "(ks % 2) * 4", "(1 - ks % 2) * 4"),
}


def is_right(problem: Problem, device: str) -> bool:
    inputs = inputs_of(problem, device)
    return verify(inputs, make_buffers(inputs), TILES, moe_twin(inputs)).is_right


def mutant_of(old: str, new: str, folder: Path) -> ModuleType:
    """gemm.py with one expression replaced, loaded from ``folder``."""
    source = Path(gemm.__file__).read_text(encoding="utf-8")
    assert old in source
    path = folder / "mutant_gemm.py"
    path.write_text(source.replace(old, new.format(old)), encoding="utf-8")
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("name", MUTANTS)
def test_a_wrong_kernel_is_caught(
    name: str, device: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    problem, old, new = MUTANTS[name]
    mutant = mutant_of(old, new, tmp_path)
    monkeypatch.setattr(moe, "launch_gemm", mutant.launch_gemm)
    assert not is_right(problem, device)


@pytest.mark.parametrize("problem", [PLAIN, INT8_BLOCKS, INT8_CHANNELS, INT4])
def test_the_mutants_are_right_before_they_are_changed(problem: Problem, device: str) -> None:
    assert is_right(problem, device)


def test_an_output_left_out_is_caught() -> None:
    reference = torch.ones(4, 8)
    output = reference.clone()
    output[2, 3] = float("nan")
    assert relative_error(output, reference) == float("inf")


def test_the_error_is_over_the_rows_own_size() -> None:
    reference = torch.tensor([[1.0, -1.0], [100.0, -100.0]])
    output = reference + torch.tensor([[0.5, 0.0], [0.5, 0.0]])
    assert relative_error(output, reference) == pytest.approx(0.5)


def test_a_row_of_zeros_must_stay_zero() -> None:
    reference = torch.tensor([[0.0, 0.0], [1.0, -1.0]])
    assert relative_error(reference, reference) == 0
    assert relative_error(reference + 0.1, reference) > 1


def test_every_dtype_has_a_tolerance() -> None:
    assert set(TOLERANCE) == set(Dtype)
