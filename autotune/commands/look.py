"""A look at a storage, for ``status`` and ``best``: once, or again while others write to it."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, NoReturn

import typer
from rich.console import Group, RenderableType
from rich.text import Text

from autotune.commands.flag_kinds import Otherwise
from autotune.commands.output import Output, write_document
from autotune.commands.storage_flag import StudiesFlags
from autotune.documents.base import Document
from autotune.errors import StorageLostError
from autotune.exit_codes import ExitCode
from autotune.spec.ranges import SECONDS
from autotune.studies.storage.open import reading
from autotune.studies.storage.raw import Source
from autotune.studies.storage.url import public_url, storage_url
from autotune.studies.storage.watch import StorageWatch

Look = tuple[Document, RenderableType]
"""One look at a storage: as a document, and for people."""


@dataclass(frozen=True, kw_only=True)
class LookFlags(StudiesFlags):
    """Which studies are looked at, and how often."""

    watch: Annotated[
        float | None,
        typer.Option(
            "--watch",
            metavar="[S]",
            help="again every S seconds (2) until Ctrl-C; with --json a line each time",
        ),
        Otherwise("2"),
    ] = None


def watch(look: Callable[[Source, str | None], Look], flags: LookFlags, output: Output) -> int:
    """Print what ``look`` sees; with ``--watch`` until Ctrl-C, which is its ordinary end."""
    if flags.watch is not None:
        SECONDS.check("--watch", flags.watch)
    with reading(flags.storage) as source:
        if flags.watch is None:
            output.result(*look(source, flags.model))
            return ExitCode.DONE
        guard = StorageWatch(flags.storage)
        guard.begin(source)

        def next_look() -> Look:
            if fault := guard.fault(()):
                raise StorageLostError(
                    f"the storage {public_url(storage_url(flags.storage))} {fault} meanwhile: what "
                    "was shown before is not there any more"
                )
            return look(source, flags.model)

        try:
            _again(flags.watch, output, next_look)
        except KeyboardInterrupt:
            return ExitCode.DONE
        finally:
            guard.close()


def _again(seconds: float, output: Output, look: Callable[[], Look]) -> NoReturn:
    """Redraw in place on a terminal; print one look after the other elsewhere."""
    if output.as_json or not output.out.is_terminal:
        while True:
            data, shown = look()
            if output.as_json:
                write_document(data)
            else:
                output.out.print(shown)
            sys.stdout.flush()
            time.sleep(seconds)
    from rich.live import Live

    with Live(console=output.out, auto_refresh=False) as live:
        while True:
            _, shown = look()
            clock = Text(f" {time.strftime('%H:%M:%S')}, every {seconds:g} s; Ctrl-C ends it")
            live.update(Group(shown, clock), refresh=True)
            time.sleep(seconds)
