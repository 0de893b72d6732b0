"""Results to stdout, everything else to stderr."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console, RenderableType

from autotune.commands.flag_command import EVERY
from autotune.documents.base import Document
from autotune.shown import data_without_passwords, shown

ConfigFlag = Annotated[
    Path | None,
    typer.Option(
        "--config",
        metavar="FILE",
        parser=Path,
        show_default="autotune.toml, where there is one; none: no file",
        help="flags that are given again and again (see docs/configuration.md)",
    ),
]


@dataclass(frozen=True, kw_only=True)
class OutputFlags:
    """The flags that every command has."""

    panel = EVERY

    json: Annotated[bool, typer.Option("--json", help="one JSON document on stdout")] = False
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="results and errors only")] = False
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="log every trial")] = False
    config: ConfigFlag = None


def _stderr() -> Console:
    return Console(stderr=True, highlight=False, markup=False, emoji=False)


def _stdout() -> Console:
    console = Console(highlight=False, markup=False, emoji=False)
    if not console.is_terminal:
        console.width = 200  # a pipe has no width: never fold a row
    return console


def write_document(document: Document, indent: int | None = None) -> None:
    """Write JSON without passwords to stdout; without ``indent`` on one line. Raises OSError where
    stdout takes it not."""
    data = data_without_passwords(document.as_json())
    sys.stdout.write(json.dumps(data, indent=indent) + "\n")
    sys.stdout.flush()  # at the end of Python nobody could tell that it failed


@dataclass(frozen=True, slots=True)
class Output:
    """The streams that a command prints to. ``as_json`` makes stdout exactly one JSON document."""

    as_json: bool = False
    quiet: bool = False
    out: Console = field(default_factory=_stdout)
    err: Console = field(default_factory=_stderr)

    def result(self, document: Document, *views: RenderableType) -> None:
        """Print ``document`` as JSON where that was asked for, else ``views``."""
        if self.as_json:
            write_document(document, indent=2)
            return
        for item in views:
            if isinstance(item, str):
                self.out.print(shown(item), soft_wrap=True)
            else:
                self.out.print(item)

    def end(self, text: str) -> None:
        """Print to stderr why the work ended, also under ``--quiet``."""
        self.err.print(shown(text), soft_wrap=True)

    def note(self, text: str) -> None:
        """Print a line for people to stderr."""
        if not self.quiet:
            self.err.print(shown(text), soft_wrap=True)
