"""The whole way from configs to compiled, through a real pool."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
from compilers import FINE, PATIENCE_S, REFUSE, faulty_compiler  # type: ignore[import-not-found]
from fakes import SaidByChild  # type: ignore[import-not-found]

from autotune.backends.binaries import Binaries, gemm_binaries
from autotune.backends.gpu.providers import OURS
from autotune.backends.protocol import Measurer
from autotune.spec.config import Config
from autotune.spec.device import Target
from autotune.spec.measurement import CompileFailure
from autotune.spec.problem import Problem
from autotune.tuning.compile_service.ahead import (
    binaries_in,
    cache_of,
    compile_ahead,
    compiled,
    opened_pool,
)
from autotune.tuning.compile_service.pool import CompilePool
from autotune.tuning.processes.child import Call, Child

PROBLEM = Problem(8, 2, 512, 256, 1)
SM90 = Target("cuda", 90)


@pytest.fixture
def pool(tmp_path: Path) -> Iterator[CompilePool]:
    opened = CompilePool(partial(faulty_compiler, tmp_path))
    opened.start(SM90, 1, timeout_s=PATIENCE_S)
    yield opened
    opened.close()


@pytest.fixture
def child() -> Iterator[Child]:
    opened = Child(SaidByChild)
    yield opened
    opened.close()


def _needed(number: int, how: int = FINE) -> Binaries:
    return gemm_binaries(PROBLEM, Config(16, 32 * number, 64, 1, 4, how))


def test_every_item_ends_though_they_are_more_than_a_pipe_takes(pool: CompilePool) -> None:
    items = [
        (number, _needed(number, REFUSE if number % 7 == 0 else FINE)) for number in range(500)
    ]
    found = dict(compiled(pool, items))
    assert found.keys() == dict(items).keys()
    failed = [n for n, a in found.items() if a and isinstance(a.result, CompileFailure)]
    assert sorted(failed) == list(range(0, 500, 7))


def test_nothing_is_asked_once_it_is_over(pool: CompilePool, tmp_path: Path) -> None:
    assert list(compiled(pool, [(1, _needed(1))], lambda: True)) == []
    assert not (tmp_path / "log").exists()


def test_without_a_pool_the_measuring_process_compiles(pool: CompilePool) -> None:
    pool.close()
    items = [(number, _needed(number)) for number in range(200)]
    assert list(compiled(pool, items)) == [(number, None) for number in range(200)]


def test_what_the_child_names_is_compiled(pool: CompilePool, child: Child, tmp_path: Path) -> None:
    """At GROUP_SIZE_M 8 it names nothing, and at 7 it dies."""
    groups = ((1, 16), (8, 32), (7, 64), (1, 128))
    calls = [
        Call.of(Measurer.binaries, PROBLEM, (Config(m, 32, 64, group, 4, FINE),))
        for group, m in groups
    ]
    assert binaries_in(child, calls[2], PATIENCE_S) == ()
    compile_ahead(pool, child, calls, PATIENCE_S)
    tiles = {int(line.split()[1]) for line in (tmp_path / "log").read_text().splitlines()}
    assert tiles == {16, 128}


@pytest.mark.parametrize(
    ("selector", "provider", "jobs", "is_there"),
    [
        ("cuda", OURS, 1, True),
        ("cuda", OURS, 0, False),
        ("cuda", "torch", 1, False),
        ("estimate:NVIDIA_H200", OURS, 1, False),
    ],
)
def test_a_pool_is_there_where_it_is_of_use(
    selector: str, provider: str, jobs: int, is_there: bool
) -> None:
    with opened_pool(selector, provider, jobs) as opened:
        assert (opened is not None) is is_there


def test_answers_about_our_kernel_are_kept(tmp_path: Path) -> None:
    assert cache_of(OURS, tmp_path, SM90) is not None
    assert cache_of("vllm", tmp_path, SM90) is None
