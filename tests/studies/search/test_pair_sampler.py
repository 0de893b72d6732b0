"""The half that follows tries neighbours of the best that are known there."""

from __future__ import annotations

import optuna
from optuna.distributions import CategoricalDistribution

from autotune.spec.config import Config, ConfigPair
from autotune.studies.pairs import PairSpace
from autotune.studies.search.samplers import SAMPLERS, make_sampler
from autotune.studies.space import Space

FAR_APART = [16 * 4**place for place in range(6)]
"""BLOCK_SIZE_N of six down configs; each has one untried neighbour, in GROUP_SIZE_M."""
DOWN = Space(Config(16, n, 64, group) for n in FAR_APART for group in (1, 2))
UP = Space(Config(16, 64, 64, group) for group in range(1, 40))


def _followers(seeds: int) -> set[int]:
    """BLOCK_SIZE_N of the down half that follows a seventh up half, over seeds."""
    space = PairSpace(UP, DOWN)
    distributions = {key: CategoricalDistribution(v) for key, v in space.knobs.items()}
    found = set()
    for seed in range(seeds):
        study = optuna.create_study(sampler=make_sampler("random", space, seed))
        for place, n in enumerate(FAR_APART):
            pair = ConfigPair(UP.configs[place], Config(16, n, 64, 1))
            down_us = 10.0 * (place + 1)
            study.add_trial(
                optuna.trial.create_trial(
                    params=pair.as_keys(),
                    distributions=distributions,
                    value=5 + down_us,
                    user_attrs={
                        "samples_us": [5 + down_us],
                        "up_us": [5.0],
                        "down_us": [down_us],
                        "outcome": "ok",
                    },
                )
            )
        asked = ConfigPair.from_keys(study.ask(distributions).params)
        assert asked.down.group_size_m == 2  # the untried neighbour
        found.add(asked.down.block_size_n)
    return found


def test_a_follower_is_next_to_one_of_the_three_fastest() -> None:
    assert "random" in SAMPLERS
    assert _followers(40) == set(FAR_APART[:3])
