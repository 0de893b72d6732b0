"""``auto:FILE``: the batch sizes that a server really ran."""

from __future__ import annotations

import logging
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from autotune.engines import DEFAULT_TOKENS
from autotune.engines.served_sizes import chosen_sizes, shares
from autotune.engines.server_steps import read_steps
from autotune.errors import UsageError
from autotune.spec.ranges import Range

_log = logging.getLogger(__name__)
AUTO = re.compile(r"auto(?:=(?P<most>\d+))?:(?P<path>.+)")
"""``auto:FILE``, or ``auto=N:FILE`` for at most N sizes."""
_MOST = Range(1, 512)


def named_sizes(words: Sequence[int | str]) -> dict[str, Any]:
    """Return the fields of ``ModelSettings`` that the words mean: sizes, and for those of a file
    the share of its time that each stands for.

    Raises UsageError for a file that does not tell, and for one beside anything else.
    """
    files = [match for word in words if (match := AUTO.fullmatch(str(word)))]
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
