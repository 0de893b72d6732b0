"""Orders that know every study's expected gain, for ``model_seconds.py``: which study compiles
next, and what an idle GPU measures."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from autotune.spec.arrays import Floats, Rows


def next_study(expected_gains: Sequence[float], started: Sequence[int], least: float) -> int | None:
    """The study that the next free core compiles for: that of the largest expected gain; among
    equals (infinite: too little is known) the one with the fewest trials started. None where no
    gain reaches ``least``."""
    best = max(expected_gains, default=0.0)
    if best <= 0 or best < least:
        return None
    equals = [place for place, gain in enumerate(expected_gains) if gain == best]
    return min(equals, key=lambda place: (started[place], place))


def next_compiled(gains: Sequence[Floats], compiled: Rows, least: float) -> tuple[int, int] | None:
    """(study, row) that an idle GPU measures: the largest of the studies' ``gains``
    (``GainsSampler.gains``) among the rows that are compiled. None where none reaches
    ``least``."""
    if not len(compiled) or not len(gains):
        return None
    among = np.array([gain[compiled] for gain in gains])
    study, place = np.unravel_index(int(np.argmax(among)), among.shape)
    if among[study, place] <= 0 or among[study, place] < least:
        return None
    return int(study), int(compiled[place])
