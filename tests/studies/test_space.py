from __future__ import annotations

import itertools
import math
import pickle
from dataclasses import replace
from pathlib import Path

import pytest
from gemm_times import read_gemm_times

from autotune.spec.config import Config
from autotune.spec.device import Device, DeviceKind, Target
from autotune.spec.limits import shared_bytes
from autotune.spec.problem import Dtype, KernelMode, Problem
from autotune.studies import space as space_module
from autotune.studies.space import (
    AMD_KNOBS,
    CDNA_HALF_KNOBS,
    NVIDIA_KNOBS,
    Space,
    broken_rule,
    completed,
    knobs_of,
    moe_space,
    why_not_searched,
)

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


def test_spaces_of_the_same_configs_are_equal(space: Space) -> None:
    again, fewer = Space(reversed(space.configs), str), Space(space.configs[1:])
    assert again == space
    assert hash(again) == hash(space)
    assert fewer != space
    assert space != space.fingerprint
    assert [space.row_of[config] for config in space.configs] == list(range(len(space)))


def test_batch_sizes_share_one_space_also_beyond_a_pipe(problem: Problem, h200: Device) -> None:
    spaces = [moe_space(replace(problem, tokens=tokens), h200) for tokens in (1, 4096)]
    assert len({id(space) for space in spaces}) == 1
    assert len({id(space) for space in pickle.loads(pickle.dumps(spaces))}) == 1


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


def test_each_config_of_the_grid_is_judged_once(
    problem: Problem, h200: Device, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Which keeps enumerating quick: a second for the larger grid of separate kernels."""
    judged: list[Config] = []

    def counted(problem: Problem, device: Device, config: Config) -> str | None:
        judged.append(config)
        return broken_rule(problem, device, config)

    monkeypatch.setattr(space_module, "broken_rule", counted)
    separate = replace(problem, kernel=KernelMode.SEPARATE, hidden=2 * problem.hidden)
    space = moe_space(separate, h200)
    knobs = knobs_of(separate, h200)
    assert len(judged) == len(set(judged)) == math.prod(map(len, knobs.values()))
    assert len(space) < len(judged)


def test_knobs_of_each_kind_of_gpu(problem: Problem, h200: Device) -> None:
    separate = replace(problem, kernel=KernelMode.SEPARATE)
    assert knobs_of(problem, h200) == NVIDIA_KNOBS
    assert knobs_of(separate, h200) == {**NVIDIA_KNOBS, "use_tma": (False, True)}
    a100 = replace(h200, target=Target("cuda", 80))
    assert knobs_of(separate, a100) == NVIDIA_KNOBS
    mi300 = replace(h200, target=Target("hip", "gfx942", 64))
    for dtype in (Dtype.BF16, Dtype.FP16):
        assert knobs_of(replace(problem, dtype=dtype), mi300) == {**AMD_KNOBS, **CDNA_HALF_KNOBS}
    assert knobs_of(replace(separate, dtype=Dtype.FP8_W8A8), mi300) == AMD_KNOBS


@pytest.mark.parametrize(
    ("changes", "config", "words"),
    [
        # BLOCK_SIZE_K must divide a block's k; BLOCK_SIZE_N may also be a multiple of its n
        ({"block_shape": (128, 128)}, Config(16, 64, 128, 1, 4, 3), None),
        ({"block_shape": (128, 128)}, Config(16, 256, 64, 1, 4, 3), None),
        ({"block_shape": (128, 128)}, Config(16, 128, 256, 1, 4, 2), "does not divide"),
        ({"block_shape": (96, 128)}, Config(16, 32, 64, 1, 4, 3), None),
        ({"block_shape": (96, 128)}, Config(16, 64, 64, 1, 4, 3), "N 64 neither"),
        ({}, Config(16, 64, 64, 1, 4, 3), None),
        # matrix instructions are AMD's
        ({}, Config(16, 32, 64, 1, 8, 2), None),
    ],
)
def test_rules_of_scales(
    problem: Problem, h200: Device, changes: dict[str, object], config: Config, words: str | None
) -> None:
    fp8 = replace(problem, dtype=Dtype.FP8_W8A8, **changes)
    reason = broken_rule(fp8, h200, config)
    assert (reason is None) if words is None else words in str(reason)


def test_shared_memory_may_be_used_to_the_last_byte(problem: Problem, h200: Device) -> None:
    config = Config(64, 64, 64, 1, 4, 4)
    need = shared_bytes(problem, config, h200.target)
    assert broken_rule(problem, replace(h200, shared_bytes=need), config) is None
    reason = broken_rule(problem, replace(h200, shared_bytes=need - 1), config)
    assert reason == (
        f"4 stages of its tiles need {need} bytes of shared memory; a block on NVIDIA H200 has "
        f"{need - 1}"
    )


@pytest.mark.parametrize(
    ("tile", "side", "warps", "is_right"),
    [
        ((32, 32), 32, 4, True),
        ((16, 32), 32, 4, False),
        ((32, 16), 32, 4, False),
        ((32, 32), 16, 4, True),
        ((32, 64), 16, 8, True),  # eight squares
        ((32, 32), 16, 8, False),  # four, and eight warps
        ((16, 16), 16, 4, True),  # Triton's default of warps is never too many
        ((32, 128), 16, 8, True),
    ],
)
def test_each_of_many_warps_needs_a_matrix_instruction(
    problem: Problem, tile: tuple[int, int], side: int, warps: int, *, is_right: bool
) -> None:
    target = Target("hip", "gfx942", 64)
    mi300 = Device(DeviceKind.ESTIMATE, "AMD Instinct MI300X", target, 65536, "3.6.0")
    config = Config(*tile, 64, 1, warps, 2, 0, side, 1)
    reason = broken_rule(problem, mi300, config) or why_not_searched(problem, mi300, config)
    assert (reason is None) is is_right
    if side == 16:  # the smaller side where none is given
        unsaid = replace(config, matrix_instr_nonkdim=None)
        reason = broken_rule(problem, mi300, unsaid) or why_not_searched(problem, mi300, unsaid)
        assert (reason is None) is is_right


def test_a_space_of_its_own(problem: Problem) -> None:
    one, two = Config(16, 32, 64, 1, 4, 3), Config(16, 64, 64, 1, 4, 2)
    space = Space([two, one, two])
    assert space.configs == (one, two)
    assert space.knobs["BLOCK_SIZE_N"] == (32, 64)
    assert space.knobs["num_stages"] == (2, 3)
    assert Space([]).knobs == {}
    assert len(space.fingerprint) == 12
    assert space.why_not(one) is None
    assert "is not one of the 2 configs of this space" in str(space.why_not(replace(one, kpack=1)))
    assert not space.is_exhausted({one})
    assert space.is_exhausted({one, two})
    explained = Space([one], lambda config: "because" if config == two else None)
    assert explained.why_not(two) == "because"
    assert "not one of the 1" in str(explained.why_not(replace(one, kpack=1)))


def test_keys_that_a_space_does_not_have(problem: Problem, h200: Device) -> None:
    space, plain = moe_space(problem, h200), Config(16, 64, 64, 1, 4, 3)
    assert space.why_not(replace(plain, kpack=1)) == "kpack is not a key of bf16 on NVIDIA H200"
    assert space.why_not(replace(plain, use_tma=True)) == "USE_TMA is for --kernel separate"
    assert space.why_not(replace(plain, use_tma=False)) is not None  # a member under another name
    assert space.why_not(replace(plain, num_stages=6)) == "num_stages is 6; allowed are 2, 3, 4, 5"


def test_completed_leaves_what_is_said(problem: Problem, h200: Device) -> None:
    plain = Config(16, 64, 64, 1, 4, 3)
    assert completed(problem, h200, replace(plain, use_tma=False)) == plain
    assert completed(problem, h200, replace(plain, use_tma=True)) == replace(plain, use_tma=True)
    mi300 = replace(h200, target=Target("hip", "gfx942", 64))
    for side, tile in ((32, 32), (32, 64), (16, 16)):
        found = completed(problem, mi300, Config(64, tile, 64, 1, 4, 2))
        assert (found.matrix_instr_nonkdim, found.kpack, found.waves_per_eu) == (side, 1, 0)
    said = Config(64, 64, 64, 1, 8, 2, 2, 16, 2)
    assert completed(problem, mi300, said) == said


def test_amds_matrix_instructions_fit_the_tile(problem: Problem) -> None:
    target = Target("hip", "gfx942", 64)
    device = Device(DeviceKind.ESTIMATE, "AMD Instinct MI300X", target, 65536, "3.6.0")
    space = moe_space(problem, device)
    assert {config.kpack for config in space.configs} == {1, 2}
    assert "larger than the tile" in str(
        space.why_not(Config(16, 64, 64, 1, 4, 2, 0, matrix_instr_nonkdim=32, kpack=1))
    )
    slow = Config(16, 32, 64, 1, 8, 2, 0, 16, 1)
    assert "some would idle" in str(space.why_not(slow))
    assert broken_rule(problem, device, slow) is None  # it runs: Triton compiles it for gfx942
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


def test_tma_in_a_config_is_judged_by_gpu_and_tile(problem: Problem, h200: Device) -> None:
    config = Config(64, 64, 64, 1, 4, 3, use_tma=True)
    roomy = replace(h200, shared_bytes=2**30)
    assert broken_rule(problem, roomy, config) is None
    assert "box" in str(broken_rule(problem, roomy, replace(config, block_size_n=512)))
    a100 = replace(roomy, target=Target("cuda", 80))
    assert "SM90" in str(broken_rule(problem, a100, config))
    assert broken_rule(problem, a100, replace(config, use_tma=False)) is None


def test_amds_grid_is_sglangs_with_vllms_waves() -> None:
    sizes = (16, 32, 64, 128, 256)
    assert [AMD_KNOBS[f"block_size_{side}"] for side in "mnk"] == [sizes, sizes, sizes[1:]]
    assert (AMD_KNOBS["group_size_m"], AMD_KNOBS["num_warps"]) == ((1, 4, 8, 16, 32), (1, 2, 4, 8))
    assert (AMD_KNOBS["num_stages"], AMD_KNOBS["waves_per_eu"]) == ((2,), (0, 1, 2, 4))
    assert CDNA_HALF_KNOBS == {"matrix_instr_nonkdim": (16, 32), "kpack": (1, 2)}


def test_a_tile_below_every_matrix_instruction_takes_the_smallest(
    problem: Problem, h200: Device
) -> None:
    mi300 = replace(h200, target=Target("hip", "gfx942", 64))
    assert completed(problem, mi300, Config(8, 8, 64, 1, 4, 2)).matrix_instr_nonkdim == 16
