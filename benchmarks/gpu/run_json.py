"""What ``run --json`` said, also before it had a schema, as of the runs that are kept here."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any


def results_of(path: Path) -> list[dict[str, Any]]:
    """Return the rows of all models."""
    run = json.loads(path.read_text(encoding="utf-8"))
    models = run.get("models", [run])
    return [row for model in models for row in model["results"]]


def is_kept(row: dict[str, Any]) -> bool:
    """True where nothing beat what the user has."""
    return bool(row["kept"] if "kept" in row else row["keeps_incumbent"])


def pieces_of(worker: dict[str, Any]) -> list[tuple[float, dict[str, float]]]:
    """Return (start in seconds, seconds of each cause) of a worker's time line."""
    return [
        (piece["start_s"], piece["seconds"]) if isinstance(piece, dict) else (piece[0], piece[1])
        for piece in worker["pieces"]
    ]
