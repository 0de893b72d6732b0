"""Ranges of the numbers that enter: by a flag, by a stored setting, by a file."""

from __future__ import annotations

from dataclasses import dataclass

from autotune.errors import UsageError

_MOST_SHOWN = 40


@dataclass(frozen=True, slots=True)
class Range:
    """The numbers from ``least`` to ``most``, both included; whole ones unless ``is_real``."""

    least: float
    most: float
    is_real: bool = False

    def __contains__(self, value: object) -> bool:
        kinds = (int, float) if self.is_real else int
        is_number = isinstance(value, kinds) and not isinstance(value, bool)
        return is_number and self.least <= value <= self.most  # type: ignore[operator]

    def __str__(self) -> str:
        what = "a number" if self.is_real else "a whole number"
        return f"{what} from {self.least:,} to {self.most:,}"

    def check(self, name: str, value: object) -> None:
        """Raise UsageError where the number of this name is outside."""
        if value not in self:
            raise UsageError(f"{name} is {value!s:.{_MOST_SHOWN}}; it is {self}")


SECONDS = Range(0.001, 1_000_000, is_real=True)
"""What a wait may take: the system's own waits end at 24 days."""
PROCESSES = Range(1, 1024)
RANKS = Range(1, 4096)
TOKENS = Range(1, 262_144)
"""Rows of a batch: 64 times what the engines tune, and their choice of experts fits in memory."""
SEEDS = Range(0, 2**32 - 1)
"""Seeds that every sampler takes."""
LAUNCHES = Range(1, 32_767)
"""Numbers of a launch config, as recordings can hold them: far above what Triton compiles."""
EXPERTS = Range(1, 100_000)
WIDTHS = Range(1, 1_000_000)
"""Row lengths of a layer. Like EXPERTS far above every published model."""
LAYERS = Range(0, 10_000)
