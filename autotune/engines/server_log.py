"""The lines of a server's log, without what stands before a message: time, level, process.

Formats of vLLM 0.33.0 (``_FORMAT``, logger.py:28; JSON: logging_utils/formatter.py:7) and SGLang
0.5.23 (``configure_logger``, srt/utils/common.py:2618). What a container, a shell or a progress bar
put before them goes, too; a line that has neither form is a message as it stands.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

from autotune.errors import UsageError

_COLOUR = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
_VLLM = re.compile(
    r"(?:\((?P<process>[^()]*?) pid=[0-9]+[^()]*\) )?"
    r"(?P<level>DEBUG|INFO|WARNING|ERROR|CRITICAL) (?P<time>[0-9-]{5} [0-9:]{8}) "
    r"\[[^]\s]+:[0-9]+\] "
)
_SGLANG = re.compile(
    r"\[(?P<time>[0-9]{4}-[0-9]{2}-[0-9]{2} [0-9:]{8}(?:\.[0-9]{3})?)(?P<process>(?: [^] ]+)*)\] "
)
_LONGEST = 1 << 20
"""Bytes of a line that are read; a server's longest, which has all its arguments, is some 20 KB."""
_HEAD = 4096
"""Bytes at the start that tell a text from anything else."""


@dataclass(frozen=True, slots=True)
class LogLine:
    """One line of a log."""

    number: int
    """From 1."""
    message: str
    engine: str = ""
    """``vllm`` or ``sglang`` by the line's form; empty where it has neither."""
    process: str = ""
    """The process as the engine calls it, as ``Worker_TP0`` or ``DP0 TP1``; may be empty."""
    time: str = ""
    """As the engine writes it: vLLM ``11-30 01:15:25``, SGLang ``2026-11-30 01:15:25``."""


def log_lines(stream: BinaryIO, name: str) -> Iterator[LogLine]:
    """Yield the lines of a log as they are read. ``name`` is the log's for messages.

    Raises UsageError for a stream that is no text.
    """
    raw = stream.readline(_LONGEST)
    number = 1
    while raw:
        if number == 1:
            _check_text(raw[:_HEAD], name)
        is_whole = raw.endswith(b"\n")
        for part in raw.decode(errors="replace").splitlines():
            if part.strip():
                yield _line(number, _COLOUR.sub("", part))
        while not is_whole and raw:
            raw = stream.readline(_LONGEST)
            is_whole = raw.endswith(b"\n")
        number += 1
        raw = stream.readline(_LONGEST)


def _check_text(head: bytes, name: str) -> None:
    if b"\0" in head or head.startswith(b"\x1f\x8b"):
        raise UsageError(
            f"--server-log {name} is no text. Give a server's log as it was printed; a packed one "
            "goes through a pipe, as zcat FILE | autotune doctor --server-log -"
        )


def _line(number: int, text: str) -> LogLine:
    if text.lstrip().startswith("{") and (line := _of_json(number, text)) is not None:
        return line
    for engine, form in (("vllm", _VLLM), ("sglang", _SGLANG)):
        if match := form.search(text):
            process = (match["process"] or "").strip()
            return LogLine(number, text[match.end() :], engine, process, match["time"])
    return LogLine(number, text)


def _of_json(number: int, text: str) -> LogLine | None:
    try:
        record = json.loads(text)
    except (ValueError, RecursionError):
        return None
    message = record.get("message") if isinstance(record, dict) else None
    if not isinstance(message, str):
        return None
    is_vllm = str(record.get("name", "")).partition(".")[0] == "vllm"
    process, time = (str(record.get(key, "")) for key in ("processName", "asctime"))
    return LogLine(number, message, "vllm" if is_vllm else "", process, time)
