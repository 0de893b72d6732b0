from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from launches_probe import CONFIG, launches  # type: ignore[import-not-found]
from tiled_kernel import layer, tiled_kernel  # type: ignore[import-not-found]
from triton.runtime.jit import JITFunction
from triton.tools.tensor_descriptor import TensorDescriptor

from autotune.backends.gpu.launches import Launch, config_of, held_back
from autotune.spec.config import ConfigPair

PROBE = Path(__file__).with_name("launches_probe.py")


@pytest.fixture(scope="module")
def probed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    names = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    names["PYTHONPATH"] = os.pathsep.join(sys.path)
    names["TRITON_CACHE_DIR"] = str(tmp_path_factory.mktemp("triton"))
    command = [sys.executable, str(PROBE)]
    done = subprocess.run(command, env=names, capture_output=True, check=False, text=True)
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def test_what_is_held_back_is_written_down_in_order_and_nothing_runs() -> None:
    calls: list[str] = []
    with held_back() as found:
        layer(CONFIG.as_keys(), calls)
    assert calls == ["small"]
    assert [launch.keywords["even"] for launch in found] == [True, False]
    assert config_of(found) == CONFIG


def test_launches_go_through_again_once_nothing_is_held_back() -> None:
    before = JITFunction.run
    launches(CONFIG)
    assert JITFunction.run is before


def test_unlike_launches_are_a_pair_and_unlike_rows_are_no_config() -> None:
    down = replace(CONFIG, block_size_n=64, num_warps=8)
    with held_back() as found:
        layer(CONFIG.as_keys(), [], down.as_keys())
    assert config_of(found) == ConfigPair(CONFIG, down)
    with held_back() as found:
        layer(CONFIG.as_keys(), [], replace(CONFIG, block_size_m=32).as_keys())
    assert config_of(found) is None
    assert config_of(found[:1]) is None


def _launch(*args: Any, **keywords: Any) -> Launch:
    return Launch(tiled_kernel, args, keywords, grid=(1,))


def test_a_launch_keeps_its_memory_and_takes_what_another_one_was_given() -> None:
    weights, shared = torch.ones(4, 8), torch.zeros(3)
    mine, others = torch.zeros(4, 8), torch.arange(32.0).reshape(4, 8)
    ids, other_ids = torch.zeros(3), torch.ones(3)
    desc = TensorDescriptor(mine, mine.shape, mine.stride(), [4, 8])
    kept = _launch(weights, desc, 8, ids=ids, same=shared)
    other_desc = TensorDescriptor(others, others.shape, others.stride(), [4, 8])
    kept.refill(_launch(weights, other_desc, 8, ids=other_ids, same=shared))
    assert torch.equal(mine, others)
    assert torch.equal(ids, other_ids)
    assert torch.equal(weights, torch.ones(4, 8))
    others.zero_()
    assert mine.any()


def test_tensors_of_another_size_are_no_other_contents() -> None:
    with pytest.raises(ValueError, match=r"tiled_kernel was given \[1, 4\], then \[4\]"):
        _launch(torch.zeros(1, 4)).refill(_launch(torch.zeros(4)))


def test_another_process_compiles_the_very_entry_that_the_launch_looks_up(
    probed: dict[str, Any],
) -> None:
    assert len(set(probed["keys"])) == 2
    assert probed["tma"] == [False, True]
    assert probed["written"] == []  # to write down compiles nothing
    assert probed["elsewhere"] == list(probed["here"].values())
    assert all(each["registers"] > 16 for each in probed["elsewhere"])
    assert probed["before"]
    assert probed["after"] == probed["before"]  # found, not compiled again


def test_what_is_in_memory_needs_no_compile(probed: dict[str, Any]) -> None:
    assert probed["left_in_memory"] == 0
    assert probed["of_another_group"] == 2


def test_a_launch_that_cannot_be_compiled_says_why(probed: dict[str, Any]) -> None:
    [(which, here)] = probed["refused"].items()
    assert which == "up"
    assert here["reason"]
    assert probed["refused_elsewhere"]["reason"] == here["reason"]
