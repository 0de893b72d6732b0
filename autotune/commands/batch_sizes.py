"""``--batch-size``: numbers, or ``auto:FILE`` for those that a server really ran."""

from __future__ import annotations

import logging
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from autotune.commands.flag_kinds import at_commas, whole_number
from autotune.engines import DEFAULT_TOKENS
from autotune.engines.served_sizes import chosen_sizes, shares
from autotune.engines.server_steps import read_steps
from autotune.errors import UsageError
from autotune.spec.ranges import Range

_log = logging.getLogger(__name__)
_AUTO = re.compile(r"auto(?:=(?P<most>\d+))?:(?P<path>.+)")
_MOST = Range(1, 512)


def size(word: Any) -> int | str:
    """Parse one value of the flag."""
    return str(word) if _AUTO.fullmatch(str(word)) else whole_number(word)


def words_of_sizes(word: str) -> list[str]:
    """Return the numbers between commas, or the file as it stands."""
    return [word] if _AUTO.fullmatch(word) else at_commas(word)


def named_sizes(words: Sequence[int | str]) -> dict[str, Any]:
    """Return the fields of ``ModelSettings`` that the words mean: sizes, and for those of a file
    the share of its time that each stands for.

    Raises UsageError for a file that does not tell, and for one beside anything else.
    """
    files = [match for word in words if (match := _AUTO.fullmatch(str(word)))]
    if not files:
        return {"batch_sizes": words}
    if len(words) > 1:
        raise UsageError(
            f"--batch-size {' '.join(map(str, words))}: {files[0][0]} stands alone; it chooses the "
            "sizes of one file"
        )
    [file] = files
    most = int(file["most"] or len(DEFAULT_TOKENS))
    _MOST.check("--batch-size auto=N", most)
    steps = read_steps(Path(file["path"]))
    sizes = chosen_sizes(steps.seconds, most)
    weights = shares(steps.seconds, sizes)
    _log.info(
        "%s: %s steps in %.1f s, as %s says; tuned, with the share of time near each: %s",
        file["path"],
        f"{steps.count:,}",
        sum(steps.seconds.values()),
        steps.source,
        ", ".join(f"{n} ({share:.1%})" for n, share in zip(sizes, weights, strict=True)),
    )
    return {"batch_sizes": sizes, "batch_weights": weights}
