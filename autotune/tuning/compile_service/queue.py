"""A queue of compiles: the next one, who waits for it, and its result. No processes here.

Configs come in, binaries go out: a config needs one binary or two, and shares them with others.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Generic, TypeVar

from autotune.backends.binaries import Binaries, Binary
from autotune.spec.binary import Which
from autotune.spec.measurement import CompileFailure, CompileResult, Resources, worse_of
from autotune.spec.problem import Problem

Asker = TypeVar("Asker")


@dataclass(frozen=True, slots=True)
class TimedCompile:
    """The end of a compile: of one binary, or of a config, which has the worse resources of its
    binaries or the first failure."""

    result: CompileResult
    seconds: float
    """Wall seconds; each binary counts for the first config that requested it, and what was known
    before takes none."""


@dataclass(frozen=True, slots=True)
class _Request(Generic[Asker]):
    asker: Asker
    binaries: Binaries


class CompileQueue(Generic[Asker]):
    """Binaries, each taken once: those that somebody waits for in their order, then those that are
    likely to be requested, the problems' in turn."""

    def __init__(self) -> None:
        self._requested: dict[str, Binary] = {}
        self._prefetched: dict[Problem, deque[Binary]] = {}
        self._in_work: set[str] = set()
        self._results: dict[str, TimedCompile] = {}
        self._charged: set[str] = set()
        self._waiting: list[_Request[Asker]] = []

    def __len__(self) -> int:
        """Return how many binaries could be taken, at most."""
        return len(self._requested) + sum(map(len, self._prefetched.values()))

    def prefetch(self, problem: Problem, configs: Iterable[Binaries]) -> None:
        """Compile these, the likeliest config's first, while nobody waits for others. They replace
        what was prefetched for ``problem`` before."""
        binaries = [binary for config in configs for binary in config.values()]
        self._prefetched.pop(problem, None)
        if unknown := {b.key: b for b in binaries if not self._is_begun(b)}:
            self._prefetched[problem] = deque(unknown.values())

    def request(self, asker: Asker, binaries: Binaries) -> TimedCompile | None:
        """Compile what a config needs before all that is prefetched. Returns what is known; where
        that is nothing yet, ``note`` will have an answer for ``asker``."""
        request = _Request(asker, binaries)
        if (known := self._answer(request)) is not None:
            return known
        self._waiting.append(request)
        for binary in request.binaries.values():
            if not self._is_begun(binary):
                self._requested.setdefault(binary.key, binary)
        return None

    def take(self) -> Binary | None:
        """Return the next to compile, neither known nor in work, and count it as in work."""
        while (binary := self._next()) is not None:
            if not self._is_begun(binary):
                self._in_work.add(binary.key)
                return binary
        return None

    def put_back(self, binary: Binary) -> None:
        """Have one that was taken taken again, after those that somebody waits for."""
        self._in_work.discard(binary.key)
        self._requested.setdefault(binary.key, binary)

    def note(self, binary: Binary, result: TimedCompile) -> list[tuple[Asker, TimedCompile]]:
        """Remember what came of one that was taken. Returns whose requests this answers."""
        self._in_work.discard(binary.key)
        self._results[binary.key] = result
        answered, waiting = [], []
        for request in self._waiting:
            keys = {each.key for each in request.binaries.values()}
            answer = self._answer(request) if binary.key in keys else None
            if answer is None:
                waiting.append(request)
            else:
                answered.append((request.asker, answer))
        self._waiting = waiting
        return answered

    def _next(self) -> Binary | None:
        if self._requested:
            return self._requested.pop(next(iter(self._requested)))
        if not self._prefetched:
            return None
        problem, binaries = next(iter(self._prefetched.items()))
        binary = binaries.popleft()
        del self._prefetched[problem]
        if binaries:
            self._prefetched[problem] = binaries  # behind the others
        return binary

    def _is_begun(self, binary: Binary) -> bool:
        return binary.key in self._results or binary.key in self._in_work

    def _answer(self, request: _Request[Asker]) -> TimedCompile | None:
        keys = {w: b.key for w, b in request.binaries.items() if b.key in self._results}
        found = {which: self._results[key].result for which, key in keys.items()}
        result = _together(found, len(request.binaries))
        if result is None:
            return None
        fresh = set(keys.values()) - self._charged
        self._charged |= fresh
        return TimedCompile(result, sum(self._results[key].seconds for key in fresh))


def _together(found: dict[Which, CompileResult], needed: int) -> CompileResult | None:
    """Return what is known of a config by the results of its ``needed`` binaries. One failure is
    enough to know."""
    for which, result in found.items():
        if isinstance(result, CompileFailure):
            return replace(result, which=which)
    if len(found) < needed:
        return None
    return worse_of(*(r for r in found.values() if isinstance(r, Resources)))
