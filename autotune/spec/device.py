"""Facts about the device that measurements come from, without touching it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class DeviceKind(StrEnum):
    """The source of times. Only CUDA ones may be called measured on this machine."""

    CUDA = "cuda"
    ESTIMATE = "estimate"
    REPLAY = "replay"

    @property
    def noun(self) -> str:
        """What one time of a config is called."""
        return "estimate" if self is DeviceKind.ESTIMATE else "measurement"


@dataclass(frozen=True, slots=True)
class Target:
    """The architecture that Triton compiles for. ``arch`` is 90 for SM90, "gfx942" for CDNA3."""

    backend: str
    arch: int | str
    warp_size: int = 32

    def __str__(self) -> str:
        return f"{self.backend}:{self.arch}"


@dataclass(frozen=True, slots=True)
class Device:
    """A device as studies and engine files name it.

    ``name`` is what ``torch.cuda.get_device_name()`` says ("NVIDIA H200");
    ``shared_bytes`` is the most shared memory one block may have.
    """

    kind: DeviceKind
    name: str
    target: Target
    shared_bytes: int
    triton_version: str
    method: str = ""
    """The way in which times come about, and its revision: times of unlike methods never mix."""

    @property
    def title(self) -> str:
        """Return "cuda:NVIDIA H200"."""
        return f"{self.kind.value}:{self.name}"
