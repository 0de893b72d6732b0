from __future__ import annotations

import os

import pytest

from autotune.kernels.stderr_capture import KEPT_BYTES, captured_stderr


def test_what_compiled_code_writes_is_kept_back(capfd: pytest.CaptureFixture[str]) -> None:
    with captured_stderr() as dump:
        os.write(2, b"error: pages of dump\n")
        assert dump() == "error: pages of dump\n"
    os.write(2, b"after\n")
    assert capfd.readouterr().err == "after\n"


def test_stderr_comes_back_after_an_exception(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ValueError, match="inside"), captured_stderr():
        raise ValueError("inside")
    os.write(2, b"after\n")
    assert capfd.readouterr().err == "after\n"


def test_a_long_dump_is_cut() -> None:
    with captured_stderr() as dump:
        os.write(2, b"x" * (3 * KEPT_BYTES))
        assert len(dump()) == KEPT_BYTES
