"""How far ``capture-routing`` is: a bar on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

_log = logging.getLogger(__name__)
_LINE_EVERY_S = 20.0


@contextmanager
def token_bar(console: Console, *, live: bool) -> Iterator[Callable[[int, int], None]]:
    """Yields what is to be called with the tokens done, and all of them, after each text."""
    if not live:
        yield _lines()
        return
    columns = (TextColumn("tokens"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console) as progress:
        task = progress.add_task("", visible=False)

        def show(done: int, total: int) -> None:
            progress.update(task, completed=done, total=total, visible=True)

        yield show


def _lines() -> Callable[[int, int], None]:
    said_at = time.monotonic()

    def say(done: int, total: int) -> None:
        nonlocal said_at
        if time.monotonic() - said_at > _LINE_EVERY_S:
            said_at = time.monotonic()
            _log.info("recorded %d of %d tokens", done, total)

    return say
