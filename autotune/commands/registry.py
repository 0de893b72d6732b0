"""Every command: what it does in a line, and which module of this package has it.

A module is imported when its command is called for: ``status`` does not wait for what ``run``
needs.
"""

from __future__ import annotations

import argparse
import importlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import autotune


@dataclass(frozen=True, slots=True)
class Command:
    """One command, or an action of a group of them (a name of two words)."""

    name: str
    words: str
    module: str
    function: str
    """In that module: takes the parsed arguments and the output, returns the exit code."""
    flags: str = ""
    """In that module: adds the command's arguments to a parser."""

    def load(self, function: str) -> Callable[..., Any]:
        """A function of the command's module, which is imported."""
        module = importlib.import_module(f"autotune.commands.{self.module}")
        loaded: Callable[..., Any] = getattr(module, function)
        return loaded

    def run(self, args: argparse.Namespace, output: object) -> int:
        """The command itself; the exit code."""
        return int(self.load(self.function)(args, output))


COMMANDS = (
    Command("run", "tune; run again, it resumes", "run", "run_command", "add_run_flags"),
    Command(
        "resume",
        "go on with everything unfinished",
        "run",
        "resume_command",
        "add_resume_flags",
    ),
    Command(
        "bench",
        "time given configs, without tuning",
        "bench",
        "bench_command",
        "add_bench_flags",
    ),
    Command(
        "compare",
        "kernels side by side: ours, SGLang's, vLLM's, PyTorch's; plots and data",
        "compare",
        "compare_command",
        "add_compare_flags",
    ),
    Command(
        "record",
        "measure a whole space into one file",
        "record",
        "record_command",
        "add_record_flags",
    ),
    Command("status", "how far everything is", "inspecting", "status_command", "add_look_flags"),
    Command("best", "the winners so far", "inspecting", "best_command", "add_look_flags"),
    Command(
        "export",
        "write the engine files again from the storage",
        "inspecting",
        "export_command",
        "add_export_flags",
    ),
    Command(
        "dashboard",
        "optuna-dashboard on the storage, on loopback",
        "dashboard",
        "dashboard_command",
        "add_dashboard_flags",
    ),
    Command(
        "report",
        "one HTML page with plots, and PNGs",
        "report",
        "report_command",
        "add_report_flags",
    ),
    Command(
        "capture-routing",
        "record which experts a model chooses",
        "routing",
        "capture_command",
        "add_capture_flags",
    ),
    Command(
        "routing-stats",
        "load and padding of a recorded routing",
        "routing",
        "stats_command",
        "add_stats_flags",
    ),
    Command("models", "the built-in catalogue with its shapes", "inspecting", "models_command"),
    Command(
        "check",
        "is an engine file legal, is it found",
        "inspecting",
        "check_command",
        "add_check_flags",
    ),
    Command(
        "storage check",
        "version, integrity, what is in it",
        "storage",
        "check_storage_command",
        "add_check_storage_flags",
    ),
    Command(
        "storage backup",
        "copy it, also while a run goes on",
        "storage",
        "backup_command",
        "add_backup_flags",
    ),
    Command(
        "storage upgrade",
        "an older Optuna's, after a backup",
        "storage",
        "upgrade_command",
        "add_upgrade_flags",
    ),
    Command(
        "storage serve",
        "by gRPC, to workers on other machines",
        "storage",
        "serve_command",
        "add_serve_flags",
    ),
    Command(
        "convert",
        "an engine's file made legal for another, with every change listed",
        "convert",
        "convert_command",
        "add_convert_flags",
    ),
    Command("doctor", "what this machine has", "doctor", "doctor_command", "add_doctor_flags"),
)
GROUPS = {"storage": "is the storage sound; copy, upgrade, serve it"}
"""What actions have in common, in a line."""


class _LateParser(argparse.ArgumentParser):
    """Has its arguments only once it parses some: they bring imports."""

    fill: Callable[[argparse.ArgumentParser], None] | None = None

    def parse_known_args(  # type: ignore[override]
        self, args: Sequence[str] | None = None, namespace: Any = None
    ) -> tuple[argparse.Namespace, list[str]]:
        if self.fill is not None:
            fill, self.fill = self.fill, None
            fill(self)
        return super().parse_known_args(args, namespace)


def make_parser() -> argparse.ArgumentParser:
    """Of every command: ``command`` of what it parses is the ``Command``."""
    parser = argparse.ArgumentParser(prog="autotune", description=autotune.__doc__)
    parser.add_argument("--version", action="version", version=f"autotune {autotune.__version__}")
    commands = parser.add_subparsers(
        title="commands", required=True, metavar="COMMAND", parser_class=_LateParser
    )
    groups: dict[str, argparse._SubParsersAction[_LateParser]] = {}
    for command in COMMANDS:
        group, _, action = command.name.rpartition(" ")
        if group and group not in groups:
            words = GROUPS[group]
            of_group = commands.add_parser(group, help=words, description=words)
            groups[group] = of_group.add_subparsers(
                title="actions", required=True, metavar="ACTION", parser_class=_LateParser
            )
        _add(groups[group] if group else commands, action, command)
    return parser


def _add(parent: argparse._SubParsersAction[_LateParser], name: str, command: Command) -> None:
    def fill(parser: argparse.ArgumentParser) -> None:
        parser.set_defaults(command=command)
        group = parser.add_argument_group("output")
        group.add_argument("--json", action="store_true", help="one JSON document on stdout")
        group.add_argument("--quiet", "-q", action="store_true", help="results and errors only")
        group.add_argument("--verbose", "-v", action="store_true", help="log every trial")
        if command.flags:
            command.load(command.flags)(parser)

    parent.add_parser(name, help=command.words, description=command.words).fill = fill
