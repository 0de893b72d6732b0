"""Who waits for which compile, what has come of it, and what is compiled next. No processes here.

Configs come in, binaries go out: a config needs one binary or two, and shares them with others.
"""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Iterable
from concurrent.futures import Future
from dataclasses import dataclass, replace

from autotune.spec.binary import BOTH, Which
from autotune.spec.config import AnyConfig
from autotune.spec.measurement import CompileFailure, CompileResult, Resources, worse_of
from autotune.spec.problem import Problem
from autotune.tune.compile_service.queue import Binary, Wishes, binaries_of


@dataclass(frozen=True, slots=True)
class Answer:
    """What came of one binary. ``seconds`` is its wall time, 0 of one that was known."""

    result: CompileResult
    seconds: float


@dataclass(frozen=True, slots=True)
class CompiledAhead:
    """What came of a config: the worse resources of its binaries, or the first failure."""

    result: CompileResult
    seconds: float
    """Of its binaries, each counted for the first config that needed it."""


@dataclass(frozen=True, slots=True)
class _Need:
    binaries: dict[Which, Binary]
    future: Future[CompiledAhead | None]


class Orders:
    """Thread-safe. Futures are completed without holding the lock: callbacks may order more."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._wishes = Wishes()
        self._in_work: set[str] = set()
        self._answers: dict[str, Answer] = {}
        self._charged: set[str] = set()
        self._needs: dict[str, list[_Need]] = defaultdict(list)
        self._is_closed = False

    @property
    def waiting(self) -> int:
        """Binaries that could be taken, at most."""
        with self._lock:
            return len(self._wishes)

    def want(self, problem: Problem, configs: Iterable[AnyConfig]) -> None:
        """Wishes for ``problem``, the likeliest first, instead of those before."""
        binaries = [b for config in configs for b in binaries_of(problem, config).values()]
        with self._lock:
            unknown = {b.key: b for b in binaries if not self._is_begun(b)}
            self._wishes.want(problem, unknown.values())

    def need(self, problem: Problem, config: AnyConfig) -> Future[CompiledAhead | None]:
        """Before all wishes. Done at once where all is known; None after ``close``."""
        need = _Need(binaries_of(problem, config), Future())
        with self._lock:
            if not self._is_closed and self._together(need.binaries) is None:
                for binary in {b.key: b for b in need.binaries.values()}.values():
                    if binary.key not in self._answers:
                        self._needs[binary.key].append(need)
                    if not self._is_begun(binary):
                        self._wishes.need(binary)
                return need.future
        self._complete([need])
        return need.future

    def result(self, problem: Problem, config: AnyConfig) -> CompileResult | None:
        """What is known by now. Starts nothing."""
        with self._lock:
            return self._together(binaries_of(problem, config))

    def take(self) -> Binary | None:
        """The next to compile: neither known nor in work."""
        with self._lock:
            while (binary := self._wishes.take()) is not None:
                if not self._is_begun(binary):
                    self._in_work.add(binary.key)
                    return binary
        return None

    def put_back(self, binary: Binary) -> None:
        """One that was taken shall be taken again, soon."""
        with self._lock:
            self._in_work.discard(binary.key)
            self._wishes.need(binary)

    def note(self, binary: Binary, answer: Answer) -> None:
        """What came of one that was taken."""
        with self._lock:
            self._in_work.discard(binary.key)
            self._answers[binary.key] = answer
            needs = self._needs.pop(binary.key, [])
            settled = [need for need in needs if self._together(need.binaries) is not None]
        self._complete(settled)

    def close(self) -> None:
        """Nobody will compile any more: whoever waits gets what is known, or None."""
        with self._lock:
            self._is_closed = True
            needs = [need for some in self._needs.values() for need in some]
            self._needs.clear()
        self._complete(needs)

    def _is_begun(self, binary: Binary) -> bool:
        return binary.key in self._answers or binary.key in self._in_work

    def _together(self, binaries: dict[Which, Binary]) -> CompileResult | None:
        """One failure is enough to know."""
        found = {w: self._answers[b.key].result for w, b in binaries.items() if self._knows(b)}
        for which, result in found.items():
            if isinstance(result, CompileFailure):
                return replace(result, which=which)
        if len(found) < len(BOTH):
            return None
        return worse_of(*(r for r in found.values() if isinstance(r, Resources)))

    def _knows(self, binary: Binary) -> bool:
        return binary.key in self._answers

    def _complete(self, needs: Iterable[_Need]) -> None:
        for need in needs:
            with self._lock:
                result = self._together(need.binaries)
                seconds = self._charge(need.binaries.values()) if result else 0.0
            if not need.future.done():  # where up and down fail, both say so
                need.future.set_result(CompiledAhead(result, seconds) if result else None)

    def _charge(self, binaries: Iterable[Binary]) -> float:
        keys = {b.key for b in binaries if self._knows(b)} - self._charged
        self._charged |= keys
        return sum(self._answers[key].seconds for key in keys)
