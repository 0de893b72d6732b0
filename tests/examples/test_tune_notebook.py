"""The notebook runs as it stands, and is stored with what it shows."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

_PATH = Path(__file__).parents[2] / "examples" / "tune.ipynb"


def _outputs(cells: list[dict[str, Any]]) -> list[list[str]]:
    """The kinds of what each cell shows."""
    return [[each["output_type"] for each in cell.get("outputs", [])] for cell in cells]


def test_it_runs_as_it_stands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    reason = "pip install 'moe-autotune[test]' brings Jupyter's kernel"
    nbformat = pytest.importorskip("nbformat", reason=reason)
    nbclient = pytest.importorskip("nbclient", reason=reason)
    pytest.importorskip("ipykernel", reason=reason)
    pytest.importorskip("pandas", reason=reason)
    monkeypatch.setenv("PYTHONPATH", str(_PATH.parents[1]))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    notebook = nbformat.read(_PATH, as_version=4)
    stored = _outputs(notebook.cells)
    folder = {"metadata": {"path": str(_PATH.parent)}}
    nbclient.NotebookClient(notebook, timeout=120, resources=folder).execute()
    assert _outputs(notebook.cells) == stored  # and no cell has raised


def test_it_is_small_and_its_outputs_are_there() -> None:
    assert _PATH.stat().st_size < 100_000
    cells = json.loads(_PATH.read_text())["cells"]
    shown = json.dumps([cell.get("outputs", []) for cell in cells], ensure_ascii=False)
    assert "6 of 6 batch sizes are done" in shown
    assert "image/png" in shown
    assert "Traceback" not in shown
