"""benchmarks/serving/table.py, on the recorded servers."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import table

_SERVING = Path(table.__file__).parent


@pytest.mark.parametrize("folder", ["sglang", "ep2", "fp8", "bf16"])
def test_the_page_has_the_tables_that_are_printed(
    folder: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", ["table.py", str(_SERVING / "h200" / folder)])
    table.main()
    rows = [line for line in capsys.readouterr().out.splitlines() if line.startswith("|")]
    assert "\n".join(rows) in (_SERVING / "README.md").read_text()


def test_an_arm_that_was_not_measured_is_refused(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = str(_SERVING / "h200" / "sglang")
    monkeypatch.setattr(sys, "argv", ["table.py", folder, "--first", "as_it_comes"])
    with pytest.raises(SystemExit):
        table.main()
    assert "the arms are no_files, tuned" in capsys.readouterr().err
