from __future__ import annotations

import multiprocessing
from dataclasses import replace
from pathlib import Path

import pytest

from autotune.backends.compile_cache import CompileCache, Footprints
from autotune.spec.binary import binary_key
from autotune.spec.config import Config
from autotune.spec.device import Device, DeviceKind, Target
from autotune.spec.measurement import CompileFailure, CompileResult, Resources
from autotune.spec.occupancy import Footprint
from autotune.spec.problem import Problem

SM90 = Target("cuda", 90)
SOME = Resources(registers=64, spill_bytes=8, shared_bytes=49152)
WRITERS, EACH = 4, 50


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "not" / "there" / "compiled.jsonl"


@pytest.mark.parametrize("answer", [SOME, CompileFailure("ptxas fatal: µ")])
def test_an_answer_is_kept(path: Path, answer: CompileResult) -> None:
    CompileCache(path, SM90).put("key", answer)
    assert CompileCache(path, SM90).get("key") == answer


def test_a_disk_that_refuses_costs_no_answer(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path.parents[1].touch()  # a file where a folder is needed
    cache = CompileCache(path, SM90)
    for key in ("one", "two"):
        assert cache.get(key) is None
        cache.put(key, SOME)
        assert cache.get(key) == SOME
    assert caplog.text.count("is not kept for later runs") == 1


def test_nothing_is_known_at_first(path: Path) -> None:
    assert CompileCache(path, SM90).get("key") is None
    assert not path.exists()


def test_targets_do_not_mix(path: Path) -> None:
    CompileCache(path, SM90).put("key", SOME)
    assert CompileCache(path, Target("cuda", 80)).get("key") is None


def test_an_open_cache_sees_what_others_add(path: Path) -> None:
    reader, writer = CompileCache(path, SM90), CompileCache(path, SM90)
    assert reader.get("key") is None
    writer.put("key", SOME)
    assert reader.get("key") == SOME


@pytest.mark.parametrize("share", [0.0, 0.01, 0.3, 0.5, 0.9, 0.99])
def test_a_torn_line_spoils_only_itself(path: Path, share: float) -> None:
    CompileCache(path, SM90).put("first", SOME)
    whole = path.stat().st_size
    CompileCache(path, SM90).put("torn", SOME)
    content = path.read_bytes()
    path.write_bytes(content[: whole + int(share * (len(content) - whole))])
    CompileCache(path, SM90).put("next", SOME)
    cache = CompileCache(path, SM90)
    assert cache.get("first") == SOME
    assert cache.get("next") == SOME


@pytest.mark.parametrize("line", ["[1]", "7", "null", "{}", '{"context": "other"}'])
def test_foreign_lines_are_skipped(path: Path, line: str) -> None:
    path.parent.mkdir(parents=True)
    path.write_text(line + "\n")
    cache = CompileCache(path, SM90)
    cache.put("key", SOME)
    assert CompileCache(path, SM90).get("key") == SOME


def _write(path: Path, writer: int) -> None:
    cache = CompileCache(path, SM90)
    for number in range(EACH):
        cache.put(f"{writer} {number}", SOME)


def test_processes_share_it(path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    writers = [context.Process(target=_write, args=(path, w)) for w in range(WRITERS)]
    for process in writers:
        process.start()
    for process in writers:
        process.join()
    cache = CompileCache(path, SM90)
    keys = [f"{writer} {number}" for writer in range(WRITERS) for number in range(EACH)]
    assert [key for key in keys if cache.get(key) != SOME] == []


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
