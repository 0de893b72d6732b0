"""The key of a study: every field that may change the answer."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from autotune.spec.device import Device, DeviceKind, Target
from autotune.spec.problem import Dtype, KernelMode, Problem

_PREFIX = {DeviceKind.ESTIMATE: "estimate ", DeviceKind.REPLAY: "replay "}


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
        """Raises KeyError or TypeError where a field is missing or unknown."""
        problem, device = dict(data["problem"]), dict(data["device"])
        block = problem["block_shape"]
        problem["block_shape"] = tuple(block) if block else None
        problem["dtype"] = Dtype(problem["dtype"])
        problem["kernel"] = KernelMode(problem.get("kernel", KernelMode.FUSED))
        device["kind"] = DeviceKind(device["kind"])
        device["target"] = Target(**device["target"])
        return cls(Problem(**problem), Device(**device), data["space_fingerprint"])
