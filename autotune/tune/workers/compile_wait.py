"""Where a worker's trials wait until their binaries are compiled, before the device sees them."""

from __future__ import annotations

import os
from collections.abc import Iterable
from concurrent.futures import Future
from contextlib import suppress
from typing import Generic, TypeVar

from autotune.spec.config import AnyConfig
from autotune.spec.problem import Problem
from autotune.tune.compile_service.orders import CompiledAhead
from autotune.tune.compile_service.service import Compiling

Item = TypeVar("Item")


class AwaitingCompile(Generic[Item]):
    """Items in, and out in the order in which their configs are compiled. For one thread."""

    def __init__(self, pool: Compiling) -> None:
        self._pool = pool
        self._waiting: list[tuple[Item, Future[CompiledAhead | None]]] = []
        self._bell, self._ringer = os.pipe()
        os.set_blocking(self._bell, False)
        os.set_blocking(self._ringer, False)

    def __len__(self) -> int:
        return len(self._waiting)

    @property
    def bell(self) -> int:
        """A file descriptor that becomes readable when something is compiled."""
        return self._bell

    def add(self, item: Item, problem: Problem, config: AnyConfig) -> None:
        """Order its compile before all that is only likely."""
        future = self._pool.need(problem, config)
        self._waiting.append((item, future))
        future.add_done_callback(self._ring)

    def want(self, problem: Problem, configs: Iterable[AnyConfig]) -> None:
        """What may be added next, the likeliest first."""
        self._pool.want(problem, configs)

    def compiled(self) -> list[tuple[Item, CompiledAhead | None]]:
        """Those that wait no more, and what came of each; None: the device's process compiles."""
        with suppress(BlockingIOError):
            while os.read(self._bell, 4096):
                pass
        is_done = [future.done() for _, future in self._waiting]  # once: they end meanwhile
        entries = list(zip(self._waiting, is_done, strict=True))
        self._waiting = [entry for entry, done in entries if not done]
        return [(item, future.result()) for (item, future), done in entries if done]

    def items(self) -> list[Item]:
        """Those that wait."""
        return [item for item, _ in self._waiting]

    def clear(self) -> None:
        """Forget them."""
        self._waiting.clear()

    def _ring(self, _: object) -> None:
        with suppress(BlockingIOError):  # full: it rings already
            os.write(self._ringer, b"!")
