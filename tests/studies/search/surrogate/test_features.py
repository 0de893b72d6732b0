"""Physical features, for whatever problem."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from autotune.spec.config import Config
from autotune.spec.device import Device
from autotune.spec.problem import Problem
from autotune.studies.search.surrogate.features import features
from autotune.studies.space import Space


def test_features_are_finite_for_every_config_and_routing(
    problem: Problem, h200: Device, space: Space
) -> None:
    for changed in (problem, replace(problem, tokens=1, ep_size=8, ep_rank=3, experts=16)):
        for routing in ("uniform", "zipf:1.2", "recorded"):
            table = features(replace(changed, routing=routing), h200, space.configs)
            assert table.shape[0] == len(space)
            assert np.isfinite(table).all()


def test_operations_are_those_of_both_gemms(problem: Problem, h200: Device) -> None:
    """Without a gate: two matrices of N x H in place of three."""
    config = [Config(16, 64, 64, 1, 4, 3)]  # divides every size
    gated, without = (
        2 ** features(replace(problem, gated=gated), h200, config)[0] for gated in (True, False)
    )
    m_blocks, tiles, read, operations = gated[:4]
    per_matrix = 2 * m_blocks * 16 * problem.intermediate * problem.hidden
    assert operations == pytest.approx(3 * per_matrix)
    assert without[3] == pytest.approx(2 * per_matrix)
    assert without[0] == m_blocks
    assert without[2] == pytest.approx(read * 2 / 3)
    assert tiles - without[1] == pytest.approx(m_blocks * problem.intermediate / 64)
