"""Figures of known GPUs, from ``gpus.json``: each with the document that it was read from."""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from autotune.errors import DeviceError
from autotune.spec.device import Target
from autotune.spec.problem import Dtype

_DATA = Path(__file__).with_name("gpus.json")
_GPU_FIGURES = ("sms", "clock_mhz", "memory_gb_s", "l2_bytes", "fp32_tflops", "tensor_tflops")
_RATE_OF_DTYPE: Mapping[Dtype, str] = {
    Dtype.FP32: "tf32",  # Triton's default for a float32 dot
    Dtype.FP8_W8A8: "fp8",
    Dtype.INT8_W8A8: "int8",
}
"""Dtype → key of ``tensor_tflops``; the others multiply in 16 bits ("half")."""


@dataclass(frozen=True, slots=True)
class GpuSpec:
    """One GPU as its documents describe it. An "SM" is a compute unit on AMD.

    ``spec.occupancy.SMS`` has the registers, warps and blocks of its SMs.
    """

    name: str
    """The name that ``torch.cuda.get_device_name()`` gives."""
    target: Target
    shared_per_block: int
    """Most bytes of shared memory of one block, with opt-in."""
    sms: int
    clock_mhz: float
    """Boost clock."""
    memory_gb_s: float
    """Peak bandwidth of the device memory."""
    l2_bytes: int
    fp32_tflops: float
    """Plain fp32, without tensor cores; a fused multiply-add counts twice."""
    tensor_tflops: Mapping[str, float]
    """Dense rate (no sparsity) by operand kind: half, tf32, fp8, int8."""

    def dense_tflops(self, dtype: Dtype) -> float:
        """Return the dense tensor rate of ``dtype``'s dots; raises DeviceError where the GPU has
        none."""
        kind = _RATE_OF_DTYPE.get(dtype, "half")
        if kind not in self.tensor_tflops:
            known = ", ".join(self.tensor_tflops)
            raise DeviceError(f"{self.name} has no {kind} tensor cores; it has {known}")
        return self.tensor_tflops[kind]


@cache
def known_specs() -> tuple[GpuSpec, ...]:
    """Return every GPU of the data file, in its order."""
    data = json.loads(_DATA.read_text(encoding="utf-8"))
    return tuple(_spec(name, record, data) for name, record in data["gpus"].items())


def find_spec(name: str) -> GpuSpec:
    """Return the GPU called ``name``: "NVIDIA H200", "NVIDIA_H200" and "h200" are the same.

    A part of a name will do where only one GPU has it. Raises DeviceError with the known
    names and the closest of them.
    """
    wanted = _normal(name)
    by_name = {_normal(spec.name): spec for spec in known_specs()}
    exact = by_name.get(wanted) or by_name.get(f"nvidia {wanted}")
    if exact:
        return exact
    words = set(wanted.split())
    partial = [spec for key, spec in by_name.items() if words and words <= set(key.split())]
    if len(partial) == 1:
        return partial[0]
    raise DeviceError(_unknown(name, partial, by_name))


def known_spec(name: str) -> GpuSpec | None:
    """Return the GPU of exactly this name, or None: for those who can do without its figures."""
    return next((spec for spec in known_specs() if _normal(spec.name) == _normal(name)), None)


def _unknown(name: str, partial: list[GpuSpec], by_name: Mapping[str, GpuSpec]) -> str:
    known = ", ".join(spec.name.replace(" ", "_") for spec in known_specs())
    close = [by_name[key] for key in difflib.get_close_matches(_normal(name), by_name, cutoff=0.4)]
    likely = " or ".join(spec.name.replace(" ", "_") for spec in partial or close)
    hint = f"; did you mean {likely}?" if likely else "."
    return f"no figures of a GPU called {name!r}{hint} Known are: {known}"


def _normal(name: str) -> str:
    return " ".join(re.split(r"[\s_\-]+", name.strip().lower()))


def _spec(name: str, record: Mapping[str, Any], data: Mapping[str, Any]) -> GpuSpec:
    architecture = data["architectures"][record["architecture"]]
    figures = {figure: record[figure][0] for figure in _GPU_FIGURES}  # beside it its source
    figures["shared_per_block"] = architecture["shared_per_block"]
    return GpuSpec(name=name, target=Target(*architecture["target"]), **figures)
