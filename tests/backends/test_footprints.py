from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from autotune.backends.compile_cache import CompileCache
from autotune.backends.footprints import Footprints
from autotune.spec.binary import binary_key
from autotune.spec.config import Config
from autotune.spec.device import Device, DeviceKind, Target
from autotune.spec.measurement import CompileFailure, Resources
from autotune.spec.occupancy import Footprint
from autotune.spec.problem import Problem

PROBLEM = Problem(experts=8, top_k=2, hidden=512, intermediate=200, tokens=4)
"""Up and down have binaries of their own: only one of their K is a multiple of the tile's."""
H200 = Device(DeviceKind.CUDA, "NVIDIA H200", Target("cuda", 90), 232448, "3.6.0")
TILES = Config(64, 128, 64, 1, 4, 3)
GROUPED = replace(TILES, group_size_m=16)
OTHER = replace(TILES, num_warps=8)
SMALL, LARGE = Resources(64, 0, 40_000), Resources(255, 512, 120_000)


def test_a_compile_tells_of_every_config_and_batch_size_that_shares_it(tmp_path: Path) -> None:
    path = tmp_path / "compiled.jsonl"
    ours, theirs = CompileCache(path, H200.target), CompileCache(path, H200.target)
    elsewhere = replace(PROBLEM, tokens=4096)
    footprints = Footprints(ours, elsewhere, (TILES, OTHER, GROUPED), H200)
    assert footprints() == {}
    theirs.put(binary_key(PROBLEM, TILES, "up"), SMALL)
    assert footprints() == {}  # half is not enough
    theirs.put(binary_key(PROBLEM, TILES, "down"), LARGE)
    assert footprints() == {0: Footprint(512, 1), 2: Footprint(512, 1)}
    for which in ("up", "down"):
        theirs.put(binary_key(PROBLEM, OTHER, which), CompileFailure("ptxas fatal: too large"))
    assert set(footprints()) == {0, 2}
