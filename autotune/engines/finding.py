"""What a check says about a file."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from autotune.engines.names import NameParts
from autotune.spec.device import Device, DeviceKind, Target
from autotune.spec.problem import Dtype, Problem


class Level(str, Enum):
    """An error: the engine fails, computes wrongly, or never reads it. A warning: worth a look."""

    ERROR = "error"
    WARNING = "warning"

    def __str__(self) -> str:
        return self.value


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is wrong or odd."""

    level: Level
    key: str
    """The entry's token count as the file has it; otherwise "name", "folder", "file" or "pair"."""
    message: str


def assumed(parts: NameParts, triton_version: str = "0") -> tuple[Problem, Device]:
    """A problem and a device that have these parts; what a name does not say is made up.

    Shared memory and hidden size stay 0, and an NVIDIA device counts as SM90.
    """
    problem = Problem(
        experts=parts.experts,
        top_k=1,
        hidden=0,
        intermediate=parts.intermediate,
        tokens=1,
        dtype=parts.problem_dtype or Dtype.BF16,
        block_shape=parts.block_shape,
        per_channel_quant=parts.per_channel_quant,
    )
    is_amd = parts.device_name.startswith("AMD")
    target = Target("hip", "gfx942", 64) if is_amd else Target("cuda", 90)
    return problem, Device(DeviceKind.ESTIMATE, parts.device_name, target, 0, triton_version)
