"""Texts to record a model on: read from a file, and cut into sequences of tokens."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from autotune.errors import UsageError


def texts_of(file: Path | None) -> list[str]:
    """Return a text for each line; of a .jsonl file the line's "prompt" or "text", or the line
    where it is a string. Without a file the topics of Python's own help: English prose and code.

    Raises UsageError for a file that cannot be read or holds no text.
    """
    if file is None:
        from pydoc_data.topics import topics

        return [str(text) for _, text in sorted(topics.items())]
    try:
        lines = [line for line in file.read_text(encoding="utf-8").splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"--prompts {file} cannot be read: {error}") from error
    if not lines:
        raise UsageError(f"--prompts {file} is empty; it should hold a text a line")
    return [_json_text(file, line) for line in lines] if file.suffix == ".jsonl" else lines


def _json_text(file: Path, line: str) -> str:
    try:
        value = json.loads(line)
    except ValueError:
        value = None
    text = value if isinstance(value, str) else None
    if isinstance(value, dict):
        text = value.get("prompt", value.get("text"))
    if not isinstance(text, str):
        raise UsageError(
            f'--prompts {file}: {line[:60]!r} is no JSON string and no object with a "prompt" or '
            '"text" that is one'
        )
    return text


def sequences_of(
    tokenizer: Any, texts: Iterable[str], tokens: int, longest: int
) -> Iterator[list[int]]:
    """Token ids of each text, until there are ``tokens`` in all; the last one is cut to fit.

    A text of more than ``longest`` tokens becomes several sequences, none of which sees another.
    """
    whole = (tokenizer(text)["input_ids"] for text in texts)
    pieces = (ids[at : at + longest] for ids in whole for at in range(0, len(ids), longest))
    left = tokens
    for piece in pieces:
        yield piece[:left]
        left -= len(piece)
        if left <= 0:
            return
