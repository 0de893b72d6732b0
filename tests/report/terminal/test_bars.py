from __future__ import annotations

import io
import logging

import pytest
from rich.console import Console

from autotune.report.terminal import bars
from autotune.report.terminal.bars import token_bar


def test_a_bar_on_a_terminal() -> None:
    shown = io.StringIO()
    with token_bar(Console(file=shown, force_terminal=True, width=80), live=True) as done:
        done(128, 8192)
        done(256, 8192)
    assert "256/8192" in shown.getvalue()


def test_a_line_now_and_then_elsewhere(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    seconds = iter([0.0, 5.0, 21.0, 21.0, 30.0])
    monkeypatch.setattr(bars.time, "monotonic", lambda: next(seconds))
    with caplog.at_level(logging.INFO), token_bar(Console(), live=False) as done:
        for tokens in (128, 256, 384):
            done(tokens, 8192)
    assert [record.message for record in caplog.records] == ["recorded 256 of 8192 tokens"]
