"""Every command with its help in a line; its module has its name.

A module is imported when its command is called for: ``status`` does not wait for what ``run``
needs.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol, cast

from autotune.commands.output import Output


class CommandModule(Protocol):
    """The parts of a command: its module has them, or of a group's action the ``Action``."""

    @property
    def Flags(self) -> Any:  # noqa: N802  a class
        """A frozen dataclass; ``flag_fields`` says what its fields are."""

    def run(self, flags: Any, output: Output, /) -> int:
        """Do the work; return the exit code."""


@dataclass(frozen=True, slots=True)
class Action:
    """One of a group's commands, which share the group's module. Implements CommandModule."""

    Flags: Any
    run: Callable[[Any, Output], int]


@dataclass(frozen=True, slots=True)
class Command:
    """One command, or an action of a group of them (a name of two words)."""

    name: str
    help: str
    panel: str
    """The heading under which the help of the whole command line has it."""
    example: str
    """Words behind ``autotune`` that its help shows."""

    def load(self) -> CommandModule:
        """Import the command's module; return what has its parts: the module, or of the action of a
        group, such as ``storage check``, ``CHECK`` in ``storage.py``."""
        module, _, action = self.name.replace("-", "_").partition(" ")
        found = importlib.import_module(f"autotune.commands.{module}")
        return cast(CommandModule, getattr(found, action.upper()) if action else found)


_TUNE, _LOOK, _FILES, _MEASURE, _ROUTING, _CARE = (
    "Tune",
    "Look at results",
    "Engine files",
    "Measure without tuning",
    "Routing",
    "Machine and storage",
)
COMMANDS = (
    Command(
        "run",
        "tune; run again, it resumes",
        _TUNE,
        "run --model Qwen/Qwen3-30B-A3B --tp-size 2 --batch-size 1 16 64",
    ),
    Command(
        "resume",
        "go on with everything unfinished",
        _TUNE,
        "resume --storage autotune.db --timeout 3600",
    ),
    Command("status", "how far everything is", _LOOK, "status --watch"),
    Command("best", "the winners so far", _LOOK, "best --model Qwen/Qwen3-30B-A3B --json"),
    Command(
        "report",
        "one HTML page with plots, and PNGs",
        _LOOK,
        "report --output-dir report --compare before.db",
    ),
    Command(
        "dashboard",
        "optuna-dashboard on the storage, on loopback",
        _LOOK,
        "dashboard --port 8080",
    ),
    Command(
        "export",
        "write the engine files again from the storage",
        _FILES,
        "export --output-dir configs",
    ),
    Command(
        "check",
        "is an engine file legal, is it found",
        _FILES,
        "check configs/vllm/E=128,N=384,device_name=NVIDIA_H200.json --engine vllm",
    ),
    Command(
        "convert",
        "an engine's file made legal for another, with every change listed",
        _FILES,
        "convert E=128,N=384,device_name=NVIDIA_H200.json --from vllm --to sglang",
    ),
    Command(
        "bench",
        "time given configs, without tuning",
        _MEASURE,
        "bench --model Qwen/Qwen3-30B-A3B --config-file mine.json theirs.json",
    ),
    Command(
        "compare",
        "kernels side by side: ours, SGLang's, vLLM's, PyTorch's; plots and data",
        _MEASURE,
        "compare --model Qwen/Qwen3-30B-A3B --provider autotune sglang vllm",
    ),
    Command(
        "record",
        "measure a whole space into one file",
        _MEASURE,
        "record --model Qwen/Qwen3-30B-A3B --batch-size 64 --output qwen3.npz",
    ),
    Command(
        "capture-routing",
        "record which experts a model chooses",
        _ROUTING,
        "capture-routing --model Qwen/Qwen3-30B-A3B --output-dir topk_ids",
    ),
    Command(
        "routing-stats",
        "load and padding of a recorded routing",
        _ROUTING,
        "routing-stats topk_ids --ep-size 8",
    ),
    Command("doctor", "what this machine has", _CARE, "doctor --model Qwen/Qwen3-30B-A3B"),
    Command("models", "the built-in catalogue with its shapes", _CARE, "models --json"),
    Command(
        "storage check",
        "version, integrity, what is in it",
        _CARE,
        "storage check --storage autotune.db",
    ),
    Command(
        "storage backup",
        "copy it, also while a run goes on",
        _CARE,
        "storage backup copy.db --storage autotune.db",
    ),
    Command(
        "storage upgrade",
        "an older Optuna's, after a backup",
        _CARE,
        "storage upgrade --storage autotune.db",
    ),
)
GROUPS = {"storage": "is the storage sound; copy it, upgrade it"}
"""Help in a line for each group of commands."""
