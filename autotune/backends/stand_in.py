"""Whose kernel is measured for an engine's file: the engine's own, or ours, which stands in; and
whether ours was shown to rank configs as that engine's does.

``stand_in.json`` has what recordings of both kernels say. benchmarks/gpu/parity.py writes it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from autotune.engines import Engine
from autotune.engines.folders import STAND_IN, error_words
from autotune.spec.binary import Scales, scales_of
from autotune.spec.device import Device, DeviceKind, Target
from autotune.spec.problem import Problem

OURS = "autotune"
DATA = Path(__file__).with_name("stand_in.json")
MOST_MEAN, MOST_WORST = 0.01, 0.03
"""Shares that our winner may cost on the engine's kernel, over the engine's best: in the mean and
at most. Winners of two runs on one GPU differ by up to 0.6 % (benchmarks/gpu/twice.py)."""
FEWEST_PROBLEMS = 3
"""Problems, batch sizes among them, without which nothing is shown."""
_OWNER = re.compile(r"(\w+) (\d[^\s:']*)(?:: |'s )")
"""How a device's method begins where the kernel is not ours: "sglang 0.5.23: whole layer"."""


@dataclass(frozen=True, slots=True)
class Cell:
    """What evidence is of: the kernel that an engine compiles for a kind of problem and of GPU."""

    engine: str
    dtype: str
    """With its kind of scales: "bf16", "fp8_w8a8 block"."""
    target: str

    @classmethod
    def of(cls, engine: str, problem: Problem, target: Target) -> Cell:
        scales = scales_of(problem)
        words = f" {scales.name.lower()}" if scales is not Scales.NONE else ""
        return cls(engine, f"{problem.dtype.value}{words}", str(target))


@dataclass(frozen=True, slots=True)
class Evidence:
    """What the same configs take on our kernel and on an engine's."""

    kernel: str
    """Name and version of the engine's: "sglang 0.5.23"."""
    problems: int
    """Number of problems, each at one batch size."""
    spearman: float | None
    """Rank correlation of the times, the smallest of all problems; None where no space was
    recorded, but our files were timed on the engine's kernel beside its own."""
    cost_mean: float
    """Share by which our best config is slower, on the engine's kernel, than the best there."""
    cost_worst: float
    source: str
    """The command that printed this, with its files."""

    @property
    def is_enough(self) -> bool:
        """True if it shows that our kernel may stand in."""
        return (
            self.spearman is not None
            and self.problems >= FEWEST_PROBLEMS
            and self.cost_mean <= MOST_MEAN
            and self.cost_worst <= MOST_WORST
        )

    def __str__(self) -> str:
        best = "its own file" if self.spearman is None else "its best"
        return (
            f"on {self.kernel} our best is {100 * self.cost_mean:.1f} % slower than {best} in the "
            f"mean of {self.problems} problems, {100 * self.cost_worst:.1f} % at most"
        )


@dataclass(frozen=True, slots=True)
class MeasuredKernel:
    """The kernel whose times decide what an engine's file says."""

    name: str
    """Name and version of an engine's, or ``OURS``."""
    cell: Cell
    evidence: Evidence | None
    """What is known of ours in place of the engine's; None where nothing is, or ours is not
    measured."""

    @property
    def is_own(self) -> bool:
        """True for the engine's own kernel."""
        return self.name.partition(" ")[0] == self.cell.engine

    @property
    def is_proven(self) -> bool:
        """True if its times say which config is fast in the engine."""
        return self.is_own or (self.evidence is not None and self.evidence.is_enough)

    def __str__(self) -> str:
        if self.is_own:
            return f"its own kernel, {self.name}"
        whose = "our kernel" if self.name == OURS else self.name
        known = str(self.evidence) if self.evidence else "no recordings of both kernels"
        kind = f"{self.cell.dtype} on {self.cell.target}"
        if self.is_proven:
            return f"{whose} stands in (proven for {kind}: {known})"
        return f"{whose} stands in, not proven for {kind} ({known})"


def measured_kernel(engine: Engine, problem: Problem, device: Device) -> MeasuredKernel | None:
    """Return the kernel that was measured for the engine's file; None where none was measured: an
    estimate, or a recording that is replayed."""
    if device.kind is not DeviceKind.CUDA:
        return None
    return _kernel(owner_of(device.method), engine, problem, device)


def _kernel(name: str, engine: Engine, problem: Problem, device: Device) -> MeasuredKernel:
    cell = Cell.of(engine.name, problem, device.target)
    return MeasuredKernel(name, cell, known_evidence().get(cell) if name == OURS else None)


def owner_of(method: str) -> str:
    """Return the engine, with its version, whose kernel a device's method is of; else ``OURS``."""
    match = _OWNER.match(method)
    return f"{match[1].lower()} {match[2]}" if match else OURS


def kernel_lines(asked: Iterable[tuple[Engine, Problem, Device]]) -> list[str]:
    """Return a line for each engine and kernel that is measured for it, each once, with what to do
    where it is no proven one. Estimates are of ours; where the model's error is not known, a line
    says so."""
    asked = list(asked)
    lines = [line for one in asked if (line := _line(*one)) is not None]
    return list(dict.fromkeys([*lines, *error_lines(device for _, _, device in asked)]))


def error_lines(devices: Iterable[Device]) -> list[str]:
    """Return a line for each GPU with estimates whose error is not known."""
    estimated = (device for device in devices if device.kind is DeviceKind.ESTIMATE)
    found = (error_words(device.name, device.target) for device in estimated)
    return [f"estimates: {words}" for words in dict.fromkeys(found) if words]


def _line(engine: Engine, problem: Problem, device: Device) -> str | None:
    if device.kind is DeviceKind.ESTIMATE:
        return f"{engine.title}: {_kernel(OURS, engine, problem, device)}"
    kernel = measured_kernel(engine, problem, device)
    if kernel is None:
        return None
    if kernel.is_proven:
        return f"{engine.title}: {kernel}"
    return (
        f"{engine.title}: {kernel}: files go under {STAND_IN}/. To measure {engine.title}'s own "
        "kernel, pip install this package beside it, then the same run"
    )


@cache
def known_evidence() -> Mapping[Cell, Evidence]:
    """Return what is known of our kernel in place of the engines'."""
    rows = json.loads(DATA.read_text(encoding="utf-8"))["evidence"]
    return {_cell(row): _evidence(row) for row in rows}


def _cell(row: Mapping[str, Any]) -> Cell:
    return Cell(row["engine"], row["dtype"], row["target"])


def _evidence(row: Mapping[str, Any]) -> Evidence:
    return Evidence(
        row["kernel"],
        row["problems"],
        row["spearman"],
        float(row["cost_mean"]),
        float(row["cost_worst"]),
        row["source"],
    )
