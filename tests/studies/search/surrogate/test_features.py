"""Physical features, for whatever problem."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

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
