"""Looking at a storage once, or again and again while others write to it."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable
from typing import Any, NoReturn

from rich.console import Group, RenderableType
from rich.live import Live
from rich.text import Text

from autotune.commands.output import Output
from autotune.errors import UsageError
from autotune.studies.storage.open import reading
from autotune.studies.storage.summaries import Source

Look = tuple[dict[str, Any], RenderableType]
"""What was seen: as JSON, and for people."""


def watch(args: argparse.Namespace, output: Output, look: Callable[[Source], Look]) -> int:
    """Print what ``look`` sees; with ``--watch`` until Ctrl-C, which is its ordinary end."""
    if args.watch is not None and args.watch <= 0:
        raise UsageError(f"--watch is {args.watch} s; it must be above 0")
    with reading(args.storage) as source:
        if args.watch is None:
            output.result(*look(source))
            return 0
        try:
            _again(args.watch, output, lambda: look(source))
        except KeyboardInterrupt:
            return 0


def _again(seconds: float, output: Output, look: Callable[[], Look]) -> NoReturn:
    """In place on a terminal, one after the other elsewhere."""
    if output.as_json or not output.out.is_terminal:
        while True:
            data, shown = look()
            if output.as_json:
                sys.stdout.write(json.dumps(data) + "\n")
            else:
                output.out.print(shown)
            sys.stdout.flush()
            time.sleep(seconds)
    with Live(console=output.out, auto_refresh=False) as live:
        while True:
            _, shown = look()
            clock = Text(f" {time.strftime('%H:%M:%S')}, every {seconds:g} s; Ctrl-C ends it")
            live.update(Group(shown, clock), refresh=True)
            time.sleep(seconds)
