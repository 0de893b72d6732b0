from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
from alive import is_alive
from compilers import (  # type: ignore[import-not-found]
    ABORT,
    EAT,
    FINE,
    FULL,
    GRANDCHILD,
    HANG,
    KILLED_ONCE,
    PATIENCE_S,
    RAISE,
    REFUSE,
    SOME,
    answer_of,
    broken_compiler,
    faulty_compiler,
    impatient_compiler,
    wait_until,
)

from autotune.backends.binaries import gemm_binaries
from autotune.backends.compile_cache import CompileCache
from autotune.spec.config import Config, ConfigPair
from autotune.spec.device import Target
from autotune.spec.measurement import CompileFailure, FailureCause, Resources
from autotune.spec.problem import Problem
from autotune.tuning.compile_service.client import CompileClient
from autotune.tuning.compile_service.pool import CompilePool, default_jobs, provider_pool
from autotune.tuning.compile_service.queue import TimedCompile

PROBLEM = Problem(8, 2, 512, 256, 1)
SM90 = Target("cuda", 90)
TIMEOUT_S = 2.0

MakePool = Callable[..., CompilePool]


@pytest.fixture
def make_pool(tmp_path: Path) -> Iterator[MakePool]:
    pools: list[CompilePool] = []

    def make(jobs: int = 1, **options: object) -> CompilePool:
        values = {"timeout_s": PATIENCE_S, "memory_bytes": 2**28}
        faulty = partial(faulty_compiler, tmp_path)
        pools.append(CompilePool(options.pop("open_compiler", faulty)))  # type: ignore[arg-type]
        pools[-1].start(SM90, jobs, **(values | options))  # type: ignore[arg-type]
        return pools[-1]

    yield make
    for pool in pools:
        pool.close()


def _config(how: int, number: int = 16) -> Config:
    return Config(number, 64, 64, 1, 4, how)


def _answer(
    pool: CompilePool, config: Config | ConfigPair, problem: Problem = PROBLEM
) -> TimedCompile:
    client = CompileClient[object](pool.connect())
    answer = answer_of(client, problem, config)
    client.close()
    assert answer is not None
    return answer


def _log(folder: Path) -> list[list[int]]:
    lines = (folder / "log").read_text().splitlines() if (folder / "log").exists() else []
    return [[int(word) for word in line.split()] for line in lines]


def test_what_is_requested_is_compiled_once_and_remembered(
    make_pool: MakePool, tmp_path: Path
) -> None:
    pool = make_pool(jobs=2)
    config = _config(FINE)
    first = _answer(pool, config)
    assert first.result == SOME
    assert first.seconds > 0
    again = _answer(pool, replace(config, group_size_m=8))
    other = _answer(pool, config, replace(PROBLEM, tokens=512))
    assert again == other == TimedCompile(SOME, 0.0)
    assert len(_log(tmp_path)) == pool.spent.binaries == 1


@pytest.mark.parametrize(
    ("how", "cause", "words"),
    [
        (HANG, FailureCause.TIMEOUT, "did not end within 2 s"),
        (ABORT, FailureCause.CRASH, "signal SIGABRT"),
        (EAT, FailureCause.MEMORY, "may take 0.25 GiB"),
        (RAISE, FailureCause.CRASH, "ValueError: a bug of ours"),
        (REFUSE, FailureCause.REFUSED, "no such dot"),
    ],
)
def test_a_bad_compile_has_its_result_and_the_next_is_fine(
    make_pool: MakePool, how: int, cause: FailureCause, words: str
) -> None:
    pool = make_pool(**({"timeout_s": TIMEOUT_S} if how == HANG else {}))
    client = CompileClient[str](pool.connect())
    client.request("bad", gemm_binaries(PROBLEM, _config(how)))
    client.request("good", gemm_binaries(PROBLEM, _config(FINE, 32)))
    answers: dict[str, TimedCompile | None] = {}
    wait_until(lambda: answers.update(client.compiled()) or len(answers) == 2)
    found, good = answers["bad"], answers["good"]
    assert found is not None
    assert isinstance(found.result, CompileFailure)
    assert found.result.cause is cause
    assert words in found.result.reason
    assert "\n" not in found.result.reason
    assert found.result.which == "up"
    assert good is not None
    assert good.result == SOME


def test_the_limit_follows_what_compiles_usually_take(make_pool: MakePool, tmp_path: Path) -> None:
    pool = make_pool(timeout_s=600.0, open_compiler=partial(impatient_compiler, tmp_path))
    for number in (16, 32, 64):
        _answer(pool, _config(FINE, number))
    failed = _answer(pool, _config(HANG)).result
    assert isinstance(failed, CompileFailure)
    assert failed.cause is FailureCause.TIMEOUT


def test_a_compile_killed_from_outside_is_tried_once_more(
    make_pool: MakePool, tmp_path: Path
) -> None:
    assert _answer(make_pool(), _config(KILLED_ONCE)).result == SOME
    assert len(_log(tmp_path)) == 2


def test_the_process_that_a_hanging_compiler_started_ends_too(
    make_pool: MakePool, tmp_path: Path
) -> None:
    found = _answer(make_pool(timeout_s=3.0), _config(GRANDCHILD))
    assert isinstance(found.result, CompileFailure)
    assert _ends(int((tmp_path / "grandchild").read_text()))


def test_prefetches_are_compiled_when_nobody_waits_and_stale_ones_are_dropped(
    make_pool: MakePool, tmp_path: Path
) -> None:
    pool = make_pool()
    client = CompileClient[str](pool.connect())
    client.request(
        "first", gemm_binaries(PROBLEM, _config(FINE, 16))
    )  # holds the only process while we go on
    client.prefetch(PROBLEM, [gemm_binaries(PROBLEM, _config(FINE, 32))])
    client.prefetch(PROBLEM, [gemm_binaries(PROBLEM, _config(FINE, m)) for m in (48, 64)])
    wait_until(lambda: len(_log(tmp_path)) == 3)
    assert [number for _, number in _log(tmp_path)] == [16, 48, 64]


def test_a_pair_needs_both_and_one_failure_says_which(make_pool: MakePool) -> None:
    pool = make_pool(jobs=2)
    fine, bad = _config(FINE), _config(REFUSE)
    assert _answer(pool, ConfigPair(fine, replace(fine, block_size_n=128))).result == SOME
    failed = _answer(pool, ConfigPair(fine, bad)).result
    assert isinstance(failed, CompileFailure)
    assert failed.which == "down"


def test_a_client_that_reads_nothing_holds_up_nobody(make_pool: MakePool) -> None:
    pool, config = make_pool(), _config(FINE)
    deaf = CompileClient[int](pool.connect())
    _answer(pool, config)  # by a fork of the pool, which has the deaf one's pipe too
    binaries = gemm_binaries(PROBLEM, config)

    def flood() -> None:
        for number in range(20_000):
            deaf.request(number, binaries)

    thread = threading.Thread(target=flood, daemon=True)
    thread.start()
    thread.join(PATIENCE_S)
    assert not thread.is_alive()
    assert _answer(pool, config).result == SOME
    answered: list[object] = []  # without a pool, nobody waits
    wait_until(lambda: answered.extend(deaf.compiled()) or len(answered) == 20_000)


@pytest.mark.parametrize("end", [CompilePool.close, CompilePool.hang_up])
def test_closing_answers_whoever_waits_and_ends_the_processes(
    make_pool: MakePool, tmp_path: Path, end: Callable[[CompilePool], None]
) -> None:
    pool = make_pool(timeout_s=600)
    client = CompileClient[str](pool.connect())
    client.request("hangs", gemm_binaries(PROBLEM, _config(HANG)))
    client.request("fine", gemm_binaries(PROBLEM, _config(FINE, 32)))
    wait_until(lambda: bool(_log(tmp_path)))
    end(pool)
    found: list[tuple[str, TimedCompile | None]] = []
    wait_until(lambda: found.extend(client.compiled()) or len(found) == 2)
    assert found == [("hangs", None), ("fine", None)]
    assert answer_of(CompileClient(pool.connect()), PROBLEM, _config(FINE, 64)) is None
    assert _ends(_log(tmp_path)[0][0])


def test_a_pool_whose_processes_do_not_start_gives_up(make_pool: MakePool, tmp_path: Path) -> None:
    pool = make_pool(open_compiler=partial(broken_compiler, tmp_path))
    assert answer_of(CompileClient(pool.connect()), PROBLEM, _config(FINE)) is None
    assert len(_log(tmp_path)) == 1


def test_a_pool_that_cannot_write_leaves_compiling_to_who_measures(make_pool: MakePool) -> None:
    assert answer_of(CompileClient(make_pool().connect()), PROBLEM, _config(FULL)) is None


def test_later_runs_know_what_the_compiler_said_but_not_what_a_limit_did(
    make_pool: MakePool, tmp_path: Path
) -> None:
    path = tmp_path / "compiled.jsonl"
    hows = (FINE, REFUSE, HANG, ABORT)
    first = make_pool(cache=CompileCache(path, SM90), timeout_s=TIMEOUT_S)
    for how in hows:
        _answer(first, _config(how))
    first.close()
    (tmp_path / "log").unlink()
    second = make_pool(cache=CompileCache(path, SM90), timeout_s=TIMEOUT_S)
    for how in hows:
        _answer(second, _config(how))
    # What is fine is compiled again, since Triton's own cache may have been emptied.
    assert len(_log(tmp_path)) == len(hows) - 1
    refused = _answer(second, _config(REFUSE)).result
    assert isinstance(refused, CompileFailure)
    assert refused.reason == "error: no such dot"


def test_it_compiles_for_a_gpu_that_is_not_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    pool = provider_pool("autotune")
    pool.start(SM90, 1)
    try:
        found = _answer(pool, Config(16, 32, 64, 1, 4, 2))
    finally:
        pool.close()
    assert isinstance(found.result, Resources)
    assert found.result.registers > 16
    assert list(tmp_path.rglob("moe_gemm_kernel.cubin"))


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel's parent-death signal is Linux's")
def test_its_processes_die_with_the_parent(tmp_path: Path) -> None:
    code = (
        "import os, signal, sys, time; from functools import partial; from pathlib import Path\n"
        "from compilers import HANG, faulty_compiler, wait_until\n"
        "from autotune.backends.binaries import gemm_binaries\n"
        "from test_pool import PROBLEM, SM90, CompileClient, CompilePool, _config, _log\n"
        "if __name__ == '__main__':\n"
        "    folder = Path(sys.argv[1])\n"
        "    pool = CompilePool(partial(faulty_compiler, folder))\n"
        "    client = CompileClient(pool.connect())\n"
        "    pool.start(SM90, 1)\n"
        "    client.request('hangs', gemm_binaries(PROBLEM, _config(HANG)))\n"
        "    wait_until(lambda: bool(_log(folder)))\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], env=environment, check=False)
    assert _ends(_log(tmp_path)[0][0])


def test_there_is_always_a_job() -> None:
    assert default_jobs(gpus=10_000) == 1
    assert default_jobs(gpus=0) >= 1


def _ends(pid: int) -> bool:
    end = time.monotonic() + PATIENCE_S
    while time.monotonic() < end:
        if not is_alive(pid):
            return True
        time.sleep(0.05)
    return False
