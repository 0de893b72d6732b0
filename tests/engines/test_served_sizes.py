"""The sizes for what a server ran, held against every choice that there is."""

from __future__ import annotations

import random
from collections.abc import Sequence
from itertools import combinations
from math import log2

import pytest

from autotune.engines.entries import nearest
from autotune.engines.served_sizes import NEAR, chosen_sizes, shares


def _cost(seconds: dict[int, float], keys: Sequence[int]) -> tuple[float, float]:
    """The share of the time far from the key that an engine takes, and the mean octaves."""
    total, far, mean = sum(seconds.values()), 0.0, 0.0
    for tokens, time_s in seconds.items():
        key = nearest(keys, tokens)
        share = time_s / total
        far += share * (max(tokens / key, key / tokens) > NEAR)
        mean += share * abs(log2(tokens / key))
    return round(far, 6), mean


@pytest.mark.parametrize("seed", range(30))
def test_no_other_choice_is_better(seed: int) -> None:
    rng = random.Random(seed)
    counts = rng.sample(range(1, 33), 4) + rng.sample(range(33, 3000), 5)
    seconds = {tokens: rng.choice((0.01, 1.0, 20.0)) * rng.random() for tokens in counts}
    most = rng.randint(1, 4)
    choices = [keys for n in range(1, most + 1) for keys in combinations(sorted(seconds), n)]
    best_far, best_mean = min(_cost(seconds, keys) for keys in choices)
    chosen = chosen_sizes(seconds, most)
    far, mean = _cost(seconds, chosen)
    assert far == best_far
    assert mean <= best_mean + 0.03 + 1e-9
    fewer = [keys for keys in choices if len(keys) < len(chosen)]
    assert all(
        each_far > far or each_mean > best_mean + 0.03 - 1e-9
        for each_far, each_mean in (_cost(seconds, keys) for keys in fewer)
    )


def test_what_is_rare_is_near_a_key_too() -> None:
    seconds = {64: 100.0, 72: 0.001, 4096: 0.001}
    assert chosen_sizes(seconds, 18) == (64, 4096)
    assert chosen_sizes({64: 100.0, 96: 0.001}, 18) == (64,)
    assert chosen_sizes({64: 100.0, 97: 0.001}, 18) == (64, 97)


def test_where_the_time_goes_there_are_more_keys() -> None:
    seconds = dict.fromkeys(range(100, 1000), 1e-6) | {200: 50.0, 240: 50.0, 288: 50.0}
    assert {200, 240, 288} <= set(chosen_sizes(seconds, 8))


def test_a_long_capture_of_any_sizes_takes_no_more_keys_than_the_engines_have() -> None:
    rng = random.Random(0)
    seconds = {tokens: rng.random() for tokens in rng.sample(range(1, 8193), 4000)}
    seconds |= {1: 1.0, 262_144: 0.1}
    keys = chosen_sizes(seconds, 18)
    assert len(keys) <= 18
    assert _cost(seconds, keys)[0] == 0
    assert chosen_sizes(dict(reversed(seconds.items())), 18) == keys


def test_shares_follow_the_engines_nearest_key() -> None:
    """96 is as far from 64 as from 128: the engines take the first."""
    seconds = {1: 1.0, 60: 2.0, 96: 3.0, 97: 3.0, 500: 1.0}
    assert shares(seconds, (1, 64, 128)) == (0.1, 0.5, 0.4)
