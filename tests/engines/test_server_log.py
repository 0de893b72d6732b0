"""What stands before a message in the logs of both engines."""

from __future__ import annotations

import ast
import io
import json
import logging
import re
import runpy
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from autotune.engines.server_log import LogLine, log_lines
from autotune.errors import UsageError

GREY, CYAN, YELLOW, END = "\x1b[90m", "\x1b[0;36m", "\x1b[33m", "\x1b[0m"


def _read(text: str | bytes) -> list[LogLine]:
    raw = text if isinstance(text, bytes) else text.encode()
    return list(log_lines(io.BytesIO(raw), "server.log"))


@pytest.mark.parametrize(
    ("text", "process", "time"),
    [
        (
            "(Worker_TP0_EP0 pid=77) WARNING 11-30 01:15:25 [fused_moe.py:1165] Using it",
            "Worker_TP0_EP0",
            "11-30 01:15:25",
        ),
        ("INFO 11-30 01:15:25 [model_executor/.../utils.py:3] Using it", "", "11-30 01:15:25"),
        (
            f"{CYAN}(EngineCore pid=7){END} {YELLOW}WARNING{END} {GREY}11-30 01:15:25{END} "
            f"{GREY}[fused_moe.py:1165]{END} Using it",
            "EngineCore",
            "11-30 01:15:25",
        ),
        (
            "(RayWorkerWrapper pid=9, ip=10.0.0.2) (RayWorkerWrapper pid=9) INFO 11-30 01:15:25 "
            "[x.py:1] Using it",
            "RayWorkerWrapper",
            "11-30 01:15:25",
        ),
        (
            "vllm-1  | 2026-11-30T01:15Z (Worker_TP1 pid=7) INFO 11-30 01:15:25 [x.py:1] Using it",
            "Worker_TP1",
            "11-30 01:15:25",
        ),
        (
            "Capturing:  10%|# | 1/10(EngineCore pid=1) INFO 11-30 01:15:25 [x.py:1] Using it",
            "EngineCore",
            "11-30 01:15:25",
        ),
        ("[2026-11-30 01:15:25 DP0 TP1 EP1] Using it", "DP0 TP1 EP1", "2026-11-30 01:15:25"),
        ("[2026-11-30 01:15:25] Using it", "", "2026-11-30 01:15:25"),
        ("[2026-11-30 01:15:25.123 TP0] Using it", "TP0", "2026-11-30 01:15:25.123"),
    ],
)
def test_what_stands_before_a_message_is_taken_off(text: str, process: str, time: str) -> None:
    engine = "sglang" if "2026-11-30 01" in text else "vllm"
    assert _read(f"{text}\n") == [LogLine(1, "Using it", engine, process, time)]


def test_a_line_of_neither_form_is_a_message() -> None:
    assert _read("Using it\n\n{'a': 1}\n{\"a\": 1}\n[1] x\n") == [
        LogLine(1, "Using it"),
        LogLine(3, "{'a': 1}"),
        LogLine(4, '{"a": 1}'),
        LogLine(5, "[1] x"),
    ]


def test_vllm_also_logs_json() -> None:
    record = {"asctime": "T", "name": "vllm.x", "processName": "P", "message": "Using it"}
    assert _read(json.dumps(record)) == [LogLine(1, "Using it", "vllm", "P", "T")]


def test_the_parts_of_a_line_with_carriage_returns_are_lines() -> None:
    bar = "Loading:   0%\rLoading: 100%\r[2026-11-30 01:15:25 TP0] Using it\r\n"
    assert _read(bar)[-1] == LogLine(1, "Using it", "sglang", "TP0", "2026-11-30 01:15:25")
    assert _read(bar + "next\n")[-1].number == 2


def test_of_a_line_without_an_end_the_start_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("autotune.engines.server_log._LONGEST", 16)
    assert _read("Using it" + "." * 100 + "\nnext\n") == [
        LogLine(1, "Using it........"),
        LogLine(2, "next"),
    ]


def test_no_text_is_refused_and_bad_bytes_are_not() -> None:
    for raw in (b"\x1f\x8b\x08rest", b"ELF\0\0"):
        with pytest.raises(UsageError, match=r"server\.log is no text"):
            _read(raw)
    assert _read(b"caf\xe9 Using it\n") == [LogLine(1, "caf\N{REPLACEMENT CHARACTER} Using it")]
    assert _read(b"") == []


def _printed(formatter: logging.Formatter, **more: object) -> str:
    record = logging.LogRecord("vllm.x", logging.WARNING, "/a/x.py", 1, "Using %s", ("it",), None)
    record.__dict__.update(more)
    return formatter.format(record)


@pytest.mark.parametrize("is_coloured", [False, True])
def test_the_lines_of_vllms_own_formatters(
    engine_package: Callable[[str], Path], is_coloured: bool
) -> None:
    package = engine_package("vllm") / "vllm"
    names: dict[str, Any] = {"envs": SimpleNamespace(VLLM_LOGGING_PREFIX="my server: ")}
    for node in ast.parse((package / "logger.py").read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Assign) and "_FORMAT" in ast.unparse(node.targets[0]):
            exec(ast.unparse(node), names)
    own = runpy.run_path(str(package / "logging_utils" / "formatter.py"))
    kind = own["ColoredFormatter" if is_coloured else "NewLineFormatter"]
    for level in ("INFO", "DEBUG"):
        formatter = kind(names["_FORMAT"], names["_DATE_FORMAT"], log_level=level)
        line = _printed(formatter, vllm_process_name="Worker_TP0")
        assert ("\x1b" in line) is is_coloured
        [read] = _read(line)
        assert read.message == "Using it"
        assert (read.engine, read.process) == ("vllm", "Worker_TP0")


def test_the_lines_of_sglangs_own_format(engine_package: Callable[[str], Path]) -> None:
    common = engine_package("sglang") / "sglang" / "srt" / "utils" / "common.py"
    source = common.read_text(encoding="utf-8")
    [form] = re.findall(r'^ +format = (f"\[%\(asctime\)s.*)$', source, re.MULTILINE)
    assert 'datefmt="%Y-%m-%d %H:%M:%S"' in source
    for prefix, milliseconds in (("", ""), (" DP0 TP1 EP1", ".%(msecs)03d")):
        text = eval(form, {"prefix": prefix, "maybe_ms": milliseconds})
        [read] = _read(_printed(logging.Formatter(text, "%Y-%m-%d %H:%M:%S")))
        assert (read.message, read.engine, read.process) == ("Using it", "sglang", prefix.strip())
