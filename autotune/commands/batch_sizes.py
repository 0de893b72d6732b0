"""``--batch-size``: numbers, or ``auto:FILE`` for those that a server really ran."""

from __future__ import annotations

from typing import Any

from autotune.api.batch_sizes import AUTO
from autotune.commands.flag_kinds import at_commas, whole_number


def size(word: Any) -> int | str:
    """Parse one value of the flag."""
    return str(word) if AUTO.fullmatch(str(word)) else whole_number(word)


def words_of_sizes(word: str) -> list[str]:
    """Return the numbers between commas, or the file as it stands."""
    return [word] if AUTO.fullmatch(word) else at_commas(word)
