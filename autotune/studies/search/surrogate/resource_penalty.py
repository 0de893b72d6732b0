"""What compiled badly is tried later: a factor on its expected improvement, never zero."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray

from autotune.spec.arrays import Floats
from autotune.spec.occupancy import Footprint

Footprints = Callable[[], Mapping[int, Footprint]]
"""What is known by now, by row of the candidates."""

HEAVY_SPILL_BYTES = 256
"""Of a thread. On an H200 none of 3,850 measurements of such configs came nearer to the best than
1.83 times its time, over three models and 24 batch sizes; half of those with up to 64 bytes are
within 1.4 times up to 256 tokens of Qwen3-30B-A3B (benchmarks/samplers/footprints.py)."""
_SPILLS = 0.05
_ALONE = 0.7
"""One block on an SM: of two candidates of about the same expected improvement the other one comes
first. No more than that: at seven of the 24 batch sizes the best config is alone on its SM, and at
one more one that is comes within 0.5 % of it."""


def weights(footprints: Mapping[int, Footprint], count: int) -> Floats:
    """[count] 1 where nothing is known or all is well."""
    weight = np.ones(count)
    for row, footprint in footprints.items():
        if footprint.spill_bytes >= HEAVY_SPILL_BYTES:
            weight[row] = _SPILLS
        elif footprint.blocks_per_sm is not None and footprint.blocks_per_sm <= 1:
            weight[row] = _ALONE
    return weight


def lighter(rows: NDArray[np.int64], weight: Floats | None) -> NDArray[np.int64]:
    """Those of the rows that do not spill heavily, as far as is known; all where all do."""
    if weight is None:
        return rows
    light = rows[weight[rows] > _SPILLS]
    return light if len(light) else rows
