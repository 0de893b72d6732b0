"""Which architecture the GPU in a file's name has: what no table says is unknown, not guessed."""

from __future__ import annotations

import re

from autotune.spec.device import Target

_CUDA: dict[int, str] = {
    75: "T4",
    80: "A100 A800 A30",
    86: "A10 A10G A16 A2 A40 A5000 A6000 3060 3070 3080 3090",
    89: "L2 L4 L20 L40 L40S 4060 4070 4080 4090 Ada",
    90: "H20 H100 H200 H800 GH200",
    100: "B100 B200 GB200",
    103: "B300 GB300",
    120: "5060 5070 5080 5090 Blackwell",
    121: "GB10",
}
"""Compute capability → words of the names of its GPUs. A Blackwell whose name says so is a
workstation's: those of data centers are called B200 and the like."""
_HIP: dict[str, str] = {
    "gfx908": "MI100",
    "gfx90a": "MI210 MI250 MI250X",
    "gfx942": "MI300A MI300X MI308X MI325 MI325X",
    "gfx950": "MI350 MI350X MI355 MI355X",
}
_RDNA: dict[str, str] = {"gfx1151": "8060S", "gfx1201": "R9700 RX9070XT 9070"}
_XPU: dict[str, str] = {"bmg": "B50 B60 B70 B570 B580"}

_MAKERS: dict[str, dict[str, Target]] = {
    "NVIDIA": {w: Target("cuda", sm) for sm, words in _CUDA.items() for w in words.split()},
    "AMD": {w: Target("hip", arch, 64) for arch, words in _HIP.items() for w in words.split()}
    | {w: Target("hip", arch, 32) for arch, words in _RDNA.items() for w in words.split()},
    "Intel(R)": {w: Target("xpu", arch) for arch, words in _XPU.items() for w in words.split()},
}
UNKNOWN = Target("unknown", "unknown")
_WORD = re.compile(r"[^\s_/-]+")


def target_of(device_name: str) -> Target:
    """Return the architecture of a GPU as drivers or files call it; ``UNKNOWN`` for any other."""
    words = _WORD.findall(device_name)
    if not words:
        return UNKNOWN
    maker = "AMD" if words[0] == "Radeon" else words[0]  # as the driver calls integrated ones
    table = _MAKERS.get(maker, {})
    return next((table[word] for word in words if word in table), UNKNOWN)
