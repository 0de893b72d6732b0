from __future__ import annotations

from dataclasses import replace

import pytest

from autotune.spec.config import Config, ConfigPair, config_from_keys, pair_of

NVIDIA = Config(16, 32, 64, 8, 4, 3)
AMD = Config(16, 32, 64, 8, 4, 2, waves_per_eu=0, matrix_instr_nonkdim=16, kpack=1)
TMA = replace(NVIDIA, block_size_n=128, use_tma=False)
PAIR = ConfigPair(NVIDIA, TMA)


def test_keys_that_do_not_apply_are_left_out_and_zeros_are_not() -> None:
    assert NVIDIA.as_keys() == {
        "BLOCK_SIZE_M": 16,
        "BLOCK_SIZE_N": 32,
        "BLOCK_SIZE_K": 64,
        "GROUP_SIZE_M": 8,
        "num_warps": 4,
        "num_stages": 3,
    }
    assert AMD.as_keys()["waves_per_eu"] == 0
    assert TMA.as_keys()["USE_TMA"] is False


@pytest.mark.parametrize("config", [NVIDIA, AMD, TMA, PAIR], ids=str)
def test_keys_and_back(config: Config | ConfigPair) -> None:
    assert config_from_keys(config.as_keys()) == config


def test_warps_and_stages_default_to_tritons() -> None:
    sizes = {"BLOCK_SIZE_M": 16, "BLOCK_SIZE_N": 32, "BLOCK_SIZE_K": 64, "GROUP_SIZE_M": 8}
    found = Config.from_keys(sizes)
    assert (found.num_warps, found.num_stages) == (4, 3)
    with pytest.raises(KeyError):
        Config.from_keys({**sizes, "SPLIT_K": 1})
    with pytest.raises(TypeError):
        Config.from_keys({"BLOCK_SIZE_M": 16})


def test_a_pair_shares_block_size_m_alone() -> None:
    keys = PAIR.as_keys()
    assert next(iter(keys)) == "BLOCK_SIZE_M"
    assert (keys["up.BLOCK_SIZE_N"], keys["down.BLOCK_SIZE_N"]) == (32, 128)
    assert not {"up.BLOCK_SIZE_M", "down.BLOCK_SIZE_M"} & keys.keys()
    with pytest.raises(ValueError, match="must be the same"):
        ConfigPair(NVIDIA, replace(NVIDIA, block_size_m=32))


def test_one_config_serves_both_halves() -> None:
    assert pair_of(NVIDIA) == ConfigPair(NVIDIA, NVIDIA)
    assert pair_of(PAIR) is PAIR


def test_a_config_in_words() -> None:
    assert str(NVIDIA) == "16x32x64 G8 w4 s3"
    assert str(AMD) == "16x32x64 G8 w4 s2 we0 mi16 kp1"
    assert str(replace(TMA, use_tma=True)) == "16x128x64 G8 w4 s3 tma"
    assert str(TMA) == "16x128x64 G8 w4 s3"
    assert str(PAIR) == "up 16x32x64 G8 w4 s3, down 16x128x64 G8 w4 s3"
