from __future__ import annotations

import itertools
import pickle
import time
from dataclasses import replace
from pathlib import Path

import pytest
from gemm_times import read_gemm_times

from autotune.spec.config import Config
from autotune.spec.device import Device, DeviceKind, Target
from autotune.spec.problem import Dtype, KernelMode, Problem
from autotune.studies.space import Space, completed, moe_space

LANDSCAPES = Path(__file__).parents[2] / "benchmarks" / "landscapes" / "sglang"


def test_the_peers_grid_is_inside_but_for_shared_memory(problem: Problem, h200: Device) -> None:
    space = moe_space(problem, h200)
    grid = itertools.product(
        (16, 32, 64, 128, 256),
        (32, 64, 128, 256),
        (64, 128, 256),
        (1, 16, 32, 64),
        (4, 8),
        (2, 3, 4, 5),
    )
    missing = [c for c in itertools.starmap(Config, grid) if c not in space]
    assert 0 < len(missing) < 1920
    reasons = {space.why_not(config) for config in missing}
    assert all(reason is not None and "bytes of shared memory" in reason for reason in reasons)


@pytest.mark.parametrize(
    ("name", "dtype", "block"),
    [
        ("qwen3-30b-a3b_tp1_bf16.npz", Dtype.BF16, None),
        ("deepseek-v3_tp8_fp8block.npz", Dtype.FP8_W8A8, (128, 128)),
    ],
)
def test_what_ran_on_an_h200_is_feasible_and_little_else(
    problem: Problem, h200: Device, name: str, dtype: Dtype, block: tuple[int, int] | None
) -> None:
    ran = {c for c in read_gemm_times(LANDSCAPES / name).configs if c.block_size_m >= 16}
    space = moe_space(replace(problem, dtype=dtype, block_shape=block), h200)
    assert {str(config) for config in ran if config not in space} == set()
    ours = {c for c in space.configs if c.block_size_k > 32 and c.group_size_m != 8}
    assert len(ours - ran) < len(ours) / 10
    assert {c.block_size_m for c in ours - ran} <= {16, 32}  # one buffer less: see limits.py


@pytest.mark.parametrize(
    ("config", "block", "words"),
    [
        (Config(16, 64, 256, 1, 4, 3), (128, 128), "does not divide the scale block 128"),
        (Config(16, 32, 64, 1, 4, 3), (48, 128), "neither divides nor is a multiple"),
        (Config(8, 64, 64, 1, 4, 3), None, "BLOCK_SIZE_M is 8; allowed are 16"),
        (Config(16, 64, 64, 1, 4, 3, waves_per_eu=0), None, "waves_per_eu is not a key of"),
        (Config(256, 256, 256, 1, 8, 5), None, "need 1310720 bytes of shared memory"),
    ],
)
def test_a_reason_in_words(
    problem: Problem,
    h200: Device,
    config: Config,
    block: tuple[int, int] | None,
    words: str,
) -> None:
    dtype = Dtype.FP8_W8A8 if block else problem.dtype
    space = moe_space(replace(problem, dtype=dtype, block_shape=block), h200)
    assert words in (space.why_not(config) or "")


def test_the_fingerprint_changes_with_the_configs_alone(problem: Problem, h200: Device) -> None:
    one, two = moe_space(problem, h200), moe_space(replace(problem, tokens=1), h200)
    assert one.fingerprint == two.fingerprint
    assert Space(one.configs[1:]).fingerprint != one.fingerprint
    assert Space(reversed(one.configs)).fingerprint == one.fingerprint


def test_it_crosses_a_pipe(space: Space) -> None:
    copy = pickle.loads(pickle.dumps(space))
    assert copy.configs == space.configs
    assert copy.why_not(Config(8, 64, 64, 1)) == space.why_not(Config(8, 64, 64, 1))


def test_amd_has_its_keys(problem: Problem) -> None:
    target = Target("hip", "gfx942", 64)
    device = Device(DeviceKind.ESTIMATE, "AMD Instinct MI300X", target, 65536, "3.6.0")
    space = moe_space(problem, device)
    assert {config.num_stages for config in space.configs} == {2}
    assert {config.waves_per_eu for config in space.configs} == {0, 1, 2, 4}
    assert "waves_per_eu" in space.knobs


GROUPS = [
    (Config(16, 64, 256, 1, 4, 3), 128, None),
    (Config(16, 64, 32, 1, 4, 3), 128, None),
    (Config(16, 64, 64, 1, 4, 3), 96, "neither divides nor is a multiple of the scale group 96"),
]


@pytest.mark.parametrize(("config", "group", "words"), GROUPS)
def test_groups_along_k_are_no_blocks(
    problem: Problem, h200: Device, config: Config, group: int, words: str | None
) -> None:
    int4 = replace(problem, dtype=Dtype.INT4_W4A16, block_shape=(0, group), zero_points=True)
    reason = moe_space(int4, h200).why_not(config)
    assert (reason is None) if words is None else words in str(reason)


@pytest.mark.parametrize(
    ("dtype", "config", "words"),
    [
        (Dtype.FP8_W8A8, Config(16, 32, 64, 1, 4, 3), "fp8 (e4m3) dots, which start at SM89"),
        (Dtype.INT8_W8A8, Config(16, 32, 16, 1, 4, 3), "BLOCK_SIZE_K is 16; allowed are 32"),
        (Dtype.BF16, Config(16, 32, 64, 1, 4, 3, use_tma=True), "SM90 or newer"),
    ],
)
def test_what_an_a100_lacks(problem: Problem, dtype: Dtype, config: Config, words: str) -> None:
    a100 = Device(DeviceKind.ESTIMATE, "A100", Target("cuda", 80), 166912, "3.6.0")
    assert words in str(moe_space(replace(problem, dtype=dtype), a100).why_not(config))


def test_tma_is_a_choice_of_separate_kernels_alone(problem: Problem, h200: Device) -> None:
    with_tma = Config(64, 64, 64, 1, 4, 3, use_tma=True)
    assert "--kernel separate" in str(moe_space(problem, h200).why_not(with_tma))
    separate = replace(problem, kernel=KernelMode.SEPARATE)
    assert with_tma in moe_space(separate, h200)
    per_tensor = replace(separate, dtype=Dtype.FP8_W8A8)
    assert "block-wise fp8" in str(moe_space(per_tensor, h200).why_not(with_tma))


def test_enumerating_is_quick(problem: Problem, h200: Device) -> None:
    begin = time.process_time()
    moe_space(replace(problem, kernel=KernelMode.SEPARATE), h200)
    assert time.process_time() - begin < 2


def test_amds_matrix_instructions_fit_the_tile(problem: Problem) -> None:
    target = Target("hip", "gfx942", 64)
    device = Device(DeviceKind.ESTIMATE, "AMD Instinct MI300X", target, 65536, "3.6.0")
    space = moe_space(problem, device)
    assert {config.kpack for config in space.configs} == {1, 2}
    assert "larger than the tile" in str(
        space.why_not(Config(16, 64, 64, 1, 4, 2, 0, matrix_instr_nonkdim=32, kpack=1))
    )
    assert "some would idle" in str(space.why_not(Config(16, 32, 64, 1, 8, 2, 0, 16, 1)))
    fp8 = moe_space(replace(problem, dtype=Dtype.FP8_W8A8), device)
    assert {config.kpack for config in fp8.configs} == {None}


@pytest.mark.parametrize(
    ("target", "kernel", "given", "launched"),
    [
        (Target("cuda", 90), KernelMode.FUSED, Config(64, 64, 32, 8), Config(64, 64, 32, 8)),
        (
            Target("cuda", 90),
            KernelMode.SEPARATE,
            Config(64, 64, 32, 8),
            Config(64, 64, 32, 8, use_tma=False),
        ),
        (
            Target("hip", "gfx942", 64),
            KernelMode.FUSED,
            Config(16, 64, 32, 8, 1, 2),
            Config(16, 64, 32, 8, 1, 2, waves_per_eu=0, matrix_instr_nonkdim=16, kpack=1),
        ),
    ],
    ids=["fused", "separate", "AMD"],
)
def test_keys_left_out_are_what_a_launch_takes(
    problem: Problem, target: Target, kernel: KernelMode, given: Config, launched: Config
) -> None:
    problem = replace(problem, kernel=kernel)
    device = Device(DeviceKind.ESTIMATE, "GPU", target, 65536, "3.6.0")
    assert completed(problem, device, given) == launched
    assert launched in moe_space(problem, device)
