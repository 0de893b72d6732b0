"""The key of a study: every field that may change the answer."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from autotune.spec.device import Device, DeviceKind, Target
from autotune.spec.problem import Dtype, KernelMode, Problem
from autotune.spec.ranges import EXPERTS, RANKS, TOKENS, WIDTHS, Range

_PREFIX = {DeviceKind.ESTIMATE: "estimate ", DeviceKind.REPLAY: "replay "}
_NUMBERS: Mapping[str, Range] = {
    "experts": EXPERTS,
    "top_k": EXPERTS,
    "hidden": WIDTHS,
    "intermediate": WIDTHS,
    "tokens": TOKENS,
    "ep_size": RANKS,
    "ep_rank": Range(0, RANKS.most - 1),
    "fused_shared_experts": Range(0, EXPERTS.most - 1),
}
"""Field of a problem → the numbers that it may have."""
_SIDES = Range(0, WIDTHS.most)
_ARCHITECTURES = Range(0, 1000)
_WARPS = Range(1, 128)
_BYTES = Range(0, 2**31)


@dataclass(frozen=True, slots=True)
class StudyKey:
    """Problem, device and space. Two runs with equal keys share one study.

    The model's name is not part of it: models of one shape have one answer.
    """

    problem: Problem
    device: Device
    space_fingerprint: str

    @property
    def digest(self) -> str:
        """Eight hexadecimal digits over every field."""
        text = json.dumps(self.as_json(), sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:8]

    @property
    def study_name(self) -> str:
        """Reads and sorts well in a dashboard; the digest makes it unique."""
        device = f"{_PREFIX.get(self.device.kind, '')}{self.device.name.replace(' ', '_')}"
        return f"{self.problem.name} {device} triton {self.device.triton_version} [{self.digest}]"

    def as_json(self) -> dict[str, Any]:
        """Only JSON types; ``from_json`` is its inverse. A problem says of its gate only that it
        has none: so names of studies stay as they were before problems said it."""
        data: dict[str, Any] = json.loads(json.dumps(asdict(self)))
        if self.problem.gated:
            del data["problem"]["gated"]
        return data

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> StudyKey:
        """Raises KeyError or TypeError where a field is missing or unknown, ValueError where a
        value is none that it may have."""
        problem, device = dict(data["problem"]), dict(data["device"])
        block = problem["block_shape"]
        problem["block_shape"] = tuple(block) if block else None
        problem["dtype"] = Dtype(problem["dtype"])
        problem["kernel"] = KernelMode(problem.get("kernel", KernelMode.FUSED))
        device["kind"] = DeviceKind(device["kind"])
        device["target"] = Target(**device["target"])
        key = cls(Problem(**problem), Device(**device), data["space_fingerprint"])
        _check(key)
        return key


def _check(key: StudyKey) -> None:
    """Raise TypeError or ValueError where a field is none of a layer, or of a device."""
    problem, device = key.problem, key.device
    for name, allowed in _NUMBERS.items():
        if (value := getattr(problem, name)) not in allowed:
            raise ValueError(f"{name} is {value!r}; it is {allowed}")
    for side in problem.block_shape or ():
        if side not in _SIDES:
            raise ValueError(f"block_shape has {side!r}; a side is {_SIDES}")
    routed, routed_k = (n - problem.fused_shared_experts for n in (problem.experts, problem.top_k))
    if not 0 <= routed_k <= routed * problem.ep_size or problem.ep_rank >= problem.ep_size:
        raise ValueError(f"{problem} is no layer")
    flags = (problem.per_channel_quant, problem.zero_points, problem.gated)
    texts = (problem.routing, device.name, device.triton_version, device.method)
    architecture = device.target.arch
    if not (
        all(isinstance(flag, bool) for flag in flags)
        and all(isinstance(text, str) for text in (*texts, key.space_fingerprint))
        and isinstance(device.target.backend, str)
        and (isinstance(architecture, str) or architecture in _ARCHITECTURES)
        and device.target.warp_size in _WARPS
        and device.shared_bytes in _BYTES
    ):
        raise TypeError(f"{key} has a field that is of another type")
