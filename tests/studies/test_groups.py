from __future__ import annotations

from autotune.kernels.config import Config, ConfigPair
from autotune.studies.groups import last_tries, regrouped
from autotune.studies.pairs import PairSpace
from autotune.studies.record import Measured
from autotune.studies.space import Space

GROUPS = (1, 8, 32)
SPACE = Space(
    Config(16, n, 64, group, 4, 3) for n in (32, 64) for group in GROUPS if (n, group) != (64, 32)
)
UP, DOWN = Config(16, 32, 64, 1, 4, 3), Config(16, 64, 64, 8, 4, 3)


def test_nothing_else_differs() -> None:
    best = Config(16, 32, 64, 8, 4, 3)
    assert list(regrouped(best, SPACE)) == [Config(16, 32, 64, g, 4, 3) for g in GROUPS]


def test_halves_get_the_same() -> None:
    pairs = list(regrouped(ConfigPair(UP, DOWN), PairSpace(SPACE, SPACE)))
    assert [(pair.up.group_size_m, pair.down.group_size_m) for pair in pairs] == [
        (group, group) for group in GROUPS
    ]
    assert {(pair.up.block_size_n, pair.down.block_size_n) for pair in pairs} == {(32, 64)}


def test_the_best_complete_one_counts() -> None:
    entries = [
        Measured(UP, (9.0,), 9.0, 0, complete=True),
        Measured(DOWN, (7.0,), 7.0, 1, complete=False),
    ]
    assert list(last_tries(entries, SPACE)) == [Config(16, 32, 64, g, 4, 3) for g in GROUPS]
    assert not list(last_tries(entries[1:], SPACE))


def test_of_pairs_the_best_halves_too() -> None:
    first = Measured(ConfigPair(UP, UP), (9.0,), 9.0, 0, True, (3.0,), (6.0,))
    second = Measured(ConfigPair(DOWN, DOWN), (9.5,), 9.5, 1, True, (5.0,), (4.5,))
    tries = list(last_tries([first, second], PairSpace(SPACE, SPACE)))
    assert tries[-1] == ConfigPair(UP, DOWN)
    assert [pair.up.group_size_m for pair in tries if isinstance(pair, ConfigPair)] == [1, 8, 32, 1]
