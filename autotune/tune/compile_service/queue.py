"""What to compile next: what someone waits for, then the likeliest of every study in turn."""

from __future__ import annotations

from collections import deque
from collections.abc import Hashable, Iterable
from dataclasses import dataclass

from autotune.spec.binary import BOTH, Which, binary_key
from autotune.spec.config import AnyConfig, Config, pair_of
from autotune.spec.problem import Problem


@dataclass(frozen=True, slots=True)
class Binary:
    """One compile. ``key`` names it among all of a target: see ``binary_key``."""

    key: str
    problem: Problem
    config: Config
    which: Which


def binaries_of(problem: Problem, config: AnyConfig) -> dict[Which, Binary]:
    """The compiles that a config needs, by GEMM; those of up and down may have one key."""
    pair = pair_of(config)
    halves: dict[Which, Config] = {"up": pair.up, "down": pair.down}
    return {w: Binary(binary_key(problem, halves[w], w), problem, halves[w], w) for w in BOTH}


class Wishes:
    """A queue of binaries, each once. Not thread-safe."""

    def __init__(self) -> None:
        self._needed: dict[str, Binary] = {}
        self._wished: dict[Hashable, deque[Binary]] = {}

    def __len__(self) -> int:
        """Binaries in it; one that several wish for counts each time."""
        return len(self._needed) + sum(map(len, self._wished.values()))

    def need(self, binary: Binary) -> None:
        """Before every wish, after what was needed earlier."""
        self._needed.setdefault(binary.key, binary)

    def want(self, owner: Hashable, binaries: Iterable[Binary]) -> None:
        """Instead of what ``owner`` wished before, the most urgent first."""
        self._wished.pop(owner, None)
        if found := deque(binaries):
            self._wished[owner] = found

    def take(self) -> Binary | None:
        """The next, which leaves the queue. Owners of wishes take turns."""
        if self._needed:
            return self._needed.pop(next(iter(self._needed)))
        if not self._wished:
            return None
        owner, wished = next(iter(self._wished.items()))
        binary = wished.popleft()
        del self._wished[owner]
        if wished:
            self._wished[owner] = wished  # behind the others
        return binary
