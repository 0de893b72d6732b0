"""Pairs on SGLang's kernel: they come from two files of its own lookup, and each GEMM is timed."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import triton
from standins import VERSIONS  # type: ignore[import-not-found]

from autotune.backends.gpu.measurer import GpuMeasurer
from autotune.backends.gpu.providers import ProviderSite, engine
from autotune.backends.gpu.providers.sglang import SGLangMoe
from autotune.backends.gpu.tensor_cache import no_room
from autotune.backends.gpu.testbed import HostClock, Testbed, TimedDevice
from autotune.backends.protocol import MeasurerOptions
from autotune.engines.sglang import version_folder
from autotune.kernels.inputs import make_inputs, make_routing, make_weights
from autotune.spec.config import Config, ConfigPair
from autotune.spec.device import Device, DeviceKind, Target
from autotune.spec.problem import Dtype, KernelMode, Problem
from autotune.studies.outcome import Outcome

FOLDER = "SGLANG_MOE_CONFIG_DIR"
SITE = ProviderSite("cpu", Target("cuda", 90))
H200 = Device(DeviceKind.CUDA, "NVIDIA H200", SITE.target, 232448, "3.6.0", "whole layer")
PROBLEM = Problem(experts=4, top_k=2, hidden=64, intermediate=32, tokens=7)
FP8 = replace(PROBLEM, dtype=Dtype.FP8_W8A8, block_shape=(32, 32))
UP = Config(16, 32, 32, 1, 4, 3, use_tma=False)
PAIR = ConfigPair(UP, replace(UP, block_size_n=64, num_warps=8, use_tma=True))
OTHER = ConfigPair(replace(UP, use_tma=True), UP)
USERS = Config(32, 64, 64, 8, 4, 2)


@pytest.fixture(params=VERSIONS["sglang"])
def sglang(
    request: pytest.FixtureRequest, install: Callable[..., Path], launched_in_python: None
) -> Iterator[SGLangMoe]:
    install("sglang", request.param)
    opened = SGLangMoe(SITE)
    yield opened
    opened.close()


@pytest.fixture
def users(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file of the user's for bf16, in the folder that the environment names."""
    folder = tmp_path / "users" / "configs" / version_folder(triton.__version__)
    folder.mkdir(parents=True)
    body = json.dumps({"8": USERS.as_keys()})
    (folder / "E=4,N=32,None,,False,False.json").write_text(body)
    monkeypatch.setenv(FOLDER, str(tmp_path / "users"))
    return tmp_path / "users"


def _layer(sglang: SGLangMoe, problem: Problem = PROBLEM) -> Any:
    weights = make_weights(problem, SITE.target, SITE.name)
    return sglang.prepare(make_inputs(problem, weights, SITE.target))


def _module(name: str) -> Any:
    return next(module for path, module in sys.modules.items() if path.endswith(name))


def _launched() -> tuple[dict[str, Any], dict[str, Any] | None]:
    return sys.modules["sglang"].LAUNCHED[-1]  # type: ignore[no-any-return]


def test_a_pair_is_found_while_it_is_launched_and_the_users_file_again(
    sglang: SGLangMoe, users: Path
) -> None:
    layer = _layer(sglang)
    for pair in (PAIR, OTHER):
        layer.run(None)
        assert _launched() == (USERS.as_keys(), USERS.as_keys())
        layer.run(pair)
        assert _launched() == (pair.up.as_keys(), pair.down.as_keys())
        assert os.environ[FOLDER] == str(users)
        layer.run(USERS)
        assert _launched() == (USERS.as_keys(), None)


def test_without_a_folder_of_the_users_none_is_left(
    sglang: SGLangMoe, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(FOLDER, raising=False)
    layer = _layer(sglang)
    layer.run(PAIR)
    layer.run(None)
    assert FOLDER not in os.environ
    assert _launched()[0]["BLOCK_SIZE_M"] == 64  # its default


def test_files_are_read_again_for_another_pair_or_problem_alone(sglang: SGLangMoe) -> None:
    layer, fp8 = _layer(sglang), _layer(sglang, FP8)
    for each, pair in ((layer, PAIR), (layer, PAIR), (layer, OTHER), (fp8, OTHER), (layer, PAIR)):
        each.run(pair)
        assert _launched() == (pair.up.as_keys(), pair.down.as_keys())
    lookup = _module("fused_moe_triton_config")
    layer.run(PAIR)
    assert lookup.get_moe_configs.cache_info().misses == 2  # the up file and the down file
    assert len(list(sglang._lookup.folder.rglob("*.json"))) == 4


def test_a_call_that_fails_leaves_nothing_behind(sglang: SGLangMoe, users: Path) -> None:
    layer, bad = _layer(sglang), replace(UP, kpack=1)
    _module("fused_moe").KEYS.discard("kpack")
    for config in (bad, ConfigPair(UP, bad)):
        with pytest.raises(TypeError, match="kpack"):
            layer.run(config)
        assert os.environ[FOLDER] == str(users)
        layer.run(None)
        assert _launched()[0] == USERS.as_keys()
    with pytest.raises(TypeError, match="kpack"):
        layer.run(bad)
    layer.run(PAIR)
    assert _launched()[0] == PAIR.up.as_keys()


def test_descriptors_of_weights_are_forgotten(sglang: SGLangMoe) -> None:
    _layer(sglang).run(PAIR)
    assert _module("fused_moe_triton_kernels").DESCRIPTORS == []


def test_a_pair_that_is_not_launched_as_it_is_says_so(sglang: SGLangMoe) -> None:
    layer = _layer(sglang)
    assert len(layer.launches(PAIR)) == 2
    _module("fused_moe_triton_config").DETERMINISTIC.append(True)
    with pytest.raises(ValueError, match="SGLang launches 64x64x32 G8 w4 s3 where its files say"):
        layer.launches(OTHER)


@pytest.mark.parametrize("config", [PAIR, OTHER, None])
def test_halves_follow_the_routing_in_memory_that_stays(
    sglang: SGLangMoe, config: ConfigPair | None
) -> None:
    layer = _layer(sglang)
    first, other = (make_routing(PROBLEM, instance, torch.device("cpu")) for instance in (0, 3))
    layer.route(first)
    halves = layer.halves(config)
    up, down = (half.__self__.args for half in (halves.up, halves.down))
    assert torch.equal(up[0], first.ids)
    layer.route(other)
    assert torch.equal(up[0], first.ids)
    halves.feed()
    assert torch.equal(up[0], other.ids)
    assert torch.equal(down[0], other.ids * 2)
    assert not torch.equal(first.ids, other.ids)
    for half, c, times in ((halves.up, up[3], 2), (halves.down, down[3], 6)):
        c.zero_()
        half()
        assert torch.equal(c, other.ids * times)


def test_pairs_and_its_own_launch_are_timed_as_gemms_alone(
    sglang: SGLangMoe, users: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine, "compiled", lambda launches, target: {})
    options = MeasurerOptions(cache_dir=Path("unused"))
    device = TimedDevice(SITE, H200, HostClock(1 << 10))
    measurer = GpuMeasurer(sglang, Testbed(device, options, instances=2, room_bytes=no_room))
    problem = replace(PROBLEM, kernel=KernelMode.SEPARATE)
    own = measurer.own_config(problem)
    users_half = replace(USERS, use_tma=False)
    assert own == ConfigPair(users_half, users_half)
    assert PAIR in measurer.space(problem)
    results = [measurer.measure(problem, PAIR), *measurer.measure_interleaved(problem, (own, PAIR))]
    for result in results:
        assert result.outcome is Outcome.OK, result.reason
        assert result.measurement is not None
        assert result.measurement.how.startswith("GEMMs alone")
        assert len(result.measurement.up_us) == len(result.measurement.down_us) == 2
    fused = measurer.measure(PROBLEM, PAIR)  # as bench has it of a file and its _down file
    assert fused.outcome is Outcome.OK
    assert fused.measurement is not None
    assert fused.measurement.up_us == ()
