"""What SGLang and vLLM call their config files, how they read them, and what is legal there.

An engine is one file that implements ``Engine`` and one line in ``ENGINES``.
"""

from __future__ import annotations

from collections.abc import Mapping

from autotune.engines.check import CheckReport, Finding, Level, check_file
from autotune.engines.names import NameParts
from autotune.engines.protocol import DEFAULT_TOKENS, Engine, Found
from autotune.engines.read_write import WrittenFile, read_configs, write_configs
from autotune.engines.sglang import SGLang
from autotune.engines.vllm import VLLM

ENGINES: Mapping[str, Engine] = {
    "sglang": SGLang(),
    "vllm": VLLM(),
}

__all__ = [
    "DEFAULT_TOKENS",
    "ENGINES",
    "CheckReport",
    "Engine",
    "Finding",
    "Found",
    "Level",
    "NameParts",
    "WrittenFile",
    "check_file",
    "read_configs",
    "write_configs",
]
