"""Compiles ahead of a device that waits for them: for commands that know their configs."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, closing, nullcontext
from itertools import islice
from multiprocessing.connection import wait
from pathlib import Path

from autotune.backends.binaries import Binaries
from autotune.backends.compile_cache import FILE_NAME, CompileCache
from autotune.backends.gpu.providers import OURS
from autotune.intervals import LULL_S
from autotune.spec.device import Target
from autotune.tuning.compile_service.client import CompileClient, Item
from autotune.tuning.compile_service.pool import CompilePool, compiles_ahead, provider_pool
from autotune.tuning.compile_service.queue import TimedCompile
from autotune.tuning.processes.child import Call, Child, ChildFault
from autotune.tuning.processes.dispatch import answer_to

_MOST_REQUESTS = 64
"""Requests on their way; their answers fit the pipe."""


def opened_pool(
    selector: str, provider: str, jobs: int
) -> AbstractContextManager[CompilePool | None]:
    """Start a pool for a provider, which imports while the device is opened; None where nothing
    can be compiled ahead, or by no process."""
    if not jobs or not compiles_ahead(selector, provider):
        return nullcontext()
    return closing(provider_pool(provider))


def cache_of(provider: str, folder: Path, target: Target) -> CompileCache | None:
    """Return what keeps the compiler's answers: those about our kernel alone."""
    return CompileCache(folder / FILE_NAME, target) if provider == OURS else None


def binaries_in(
    child: Child, call: Call[tuple[Binaries, ...]], timeout_s: float
) -> tuple[Binaries, ...]:
    """Return what a child says that its configs compile; nothing where it dies over that: who
    measures them will say why."""
    answer = answer_to(child, call, timeout_s)
    return () if isinstance(answer, ChildFault) else answer


def compile_ahead(
    pool: CompilePool, child: Child, calls: Iterable[Call[tuple[Binaries, ...]]], timeout_s: float
) -> None:
    """Have compiled what a child says in answer to ``calls``, and wait for it."""
    found = (each for call in calls for each in binaries_in(child, call, timeout_s))
    for _ in compiled(pool, ((None, binaries) for binaries in found if binaries)):
        pass


def compiled(
    pool: CompilePool,
    items: Iterable[tuple[Item, Binaries]],
    is_over: Callable[[], bool] = lambda: False,
) -> Iterator[tuple[Item, TimedCompile | None]]:
    """Have every item's binaries compiled by a pool that is started, and yield the items as they
    end, until ``is_over``; None: whoever measures compiles."""
    left = iter(items)
    client: CompileClient[Item] = CompileClient(pool.connect())
    with closing(client):
        while not is_over():
            for item, binaries in islice(left, _MOST_REQUESTS - len(client)):
                client.request(item, binaries)
            if not client:
                return
            wait([client.connection] if client.connection else [], timeout=LULL_S)
            yield from client.compiled()
