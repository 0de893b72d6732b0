"""The parts of an engine file's name, and reading a name back into them."""

from __future__ import annotations

import re
from dataclasses import dataclass

from autotune.errors import EngineFileError
from autotune.spec.device import Device
from autotune.spec.problem import Dtype, Problem

_NAME = re.compile(
    r"E=(?P<experts>[0-9]+),N=(?P<intermediate>[0-9]+),device_name=(?P<device>[^,]*?)"
    r"(?:,dtype=(?P<dtype>[^,]+?))?"
    r"(?:,block_shape=\[(?P<block_n>[0-9]+), *(?P<block_k>[0-9]+)\])?"
    r"(?:,per_channel_quant=(?P<per_channel>True|False))?"
    r"(?P<down>_down)?\.json"
)
_SLASH = re.compile(r"[/\\]")
_MOST_BYTES = 128
"""Bytes of a part, of 255 that file systems take: the rest of a name is up to 110."""
VERSION_FOLDER = re.compile(r"triton_([0-9]+(?:_[0-9]+)*)")
"""SGLang's folder of one Triton version."""
VERSION_KEY = "triton_version"
"""The key under which vLLM's files say it."""
_RELEASE = re.compile(r"[0-9]+(?:\.[0-9]+)*")

_FLOAT32 = "float32"


@dataclass(frozen=True, slots=True)
class NameParts:
    """The content of a file name, before an engine spells it."""

    experts: int
    intermediate: int
    device_name: str
    dtype: str = ""
    """Text of the dtype part; empty where there is none."""
    block_shape: tuple[int, int] | None = None
    per_channel_quant: bool = False
    down: bool = False

    @classmethod
    def of(cls, problem: Problem, device: Device, *, down: bool = False) -> NameParts:
        """Return the parts of a problem on a device, with the true intermediate size."""
        return cls(
            experts=problem.experts,
            intermediate=problem.intermediate,
            device_name=device.name,
            dtype=dtype_part(problem.dtype.value),
            block_shape=problem.block_shape,
            per_channel_quant=problem.per_channel_quant,
            down=down,
        )

    @property
    def problem_dtype(self) -> Dtype | None:
        """The dtype that the part stands for; None for a text that no engine writes."""
        if not self.dtype:
            return Dtype.BF16
        if self.dtype == _FLOAT32:
            return Dtype.FP32
        known = {dtype.value: dtype for dtype in Dtype if dtype.is_quantized}
        return known.get(self.dtype)

    def text(self, block_separator: str) -> str:
        """Return the file name; without a block part when either of its entries is 0 or None."""
        parts = [f"E={self.experts},N={self.intermediate},device_name={self.device_name}"]
        if self.dtype:
            parts.append(f"dtype={self.dtype}")
        if self.block_shape and all(self.block_shape):
            parts.append(f"block_shape=[{block_separator.join(map(str, self.block_shape))}]")
        if self.per_channel_quant:
            parts.append("per_channel_quant=True")
        return ",".join(parts) + ("_down" if self.down else "") + ".json"


def dtype_part(dtype: str) -> str:
    """Return a problem's dtype as names write it: none for bf16 and fp16, ``float32`` for fp32."""
    if dtype in (Dtype.BF16.value, Dtype.FP16.value):
        return ""
    return _FLOAT32 if dtype == Dtype.FP32.value else dtype


def parse_name(name: str) -> NameParts | None:
    """Return the parts as written, spaces in the block part or not; None for another name."""
    match = _NAME.fullmatch(name)
    if match is None:
        return None
    return NameParts(
        experts=int(match["experts"]),
        intermediate=int(match["intermediate"]),
        device_name=match["device"],
        dtype=match["dtype"] or "",
        block_shape=(int(match["block_n"]), int(match["block_k"])) if match["block_n"] else None,
        per_channel_quant=match["per_channel"] == "True",
        down=match["down"] is not None,
    )


def checked_device(name: str) -> str:
    """``name``, where it can be a part of a file name. Raises EngineFileError otherwise."""
    size = len(name.encode(errors="replace"))
    if name.strip("._ ") and size <= _MOST_BYTES and name.isprintable() and not _SLASH.search(name):
        return name
    raise EngineFileError(
        f"the device is called {shortened(name)}, which cannot be part of a file name: no slashes, "
        f"no control characters and {_MOST_BYTES} bytes at most are allowed. Check what the "
        "driver, the replay file or --device says"
    )


def shortened(name: str) -> str:
    """Return ``name`` for messages: quoted, escaped if not printable, never a screenful."""
    return ascii(name) if len(name) <= _MOST_BYTES else f"{name[:_MOST_BYTES]!a}…"


def release(triton_version: str) -> str:
    """Return the numbers of a Triton version: "3.4.0+git1a2b" is 3.4.0.

    Raises EngineFileError for a text that does not begin with numbers.
    """
    match = _RELEASE.match(triton_version)
    if match and len(match[0]) <= _MOST_BYTES:
        return match[0]
    raise EngineFileError(
        f"the Triton version is {shortened(triton_version)}; one like 3.6.0 is needed. Check the "
        "installation of triton, or the header of the replay file"
    )
