from __future__ import annotations

import pytest

from autotune.spec.config import Config, ConfigPair
from autotune.studies.pairs import PairSpace
from autotune.studies.space import Space, beside, regrouped
from autotune.studies.trial_record import TrialRecord
from autotune.tuning.tuning_study import last_tries

GROUPS = (1, 8, 32)
SPACE = Space(
    Config(16, n, 64, group, 4, 3) for n in (32, 64) for group in GROUPS if (n, group) != (64, 32)
)
ONE, OTHER = Config(16, 32, 64, 1, 4, 3), Config(16, 64, 64, 8, 4, 3)


def test_nothing_else_differs() -> None:
    assert list(regrouped(ONE, SPACE)) == [Config(16, 32, 64, g, 4, 3) for g in GROUPS]


def test_the_best_complete_one_counts() -> None:
    entries = [
        TrialRecord(ONE, (9.0,), 9.0, 0, complete=True),
        TrialRecord(OTHER, (7.0,), 7.0, 1, complete=False),
    ]
    others = [Config(16, 32, 64, g, 4, 3) for g in GROUPS]
    assert list(last_tries(entries, SPACE, regrouped)) == others
    assert not list(last_tries(entries[1:], SPACE, regrouped))


def test_pairs_have_none() -> None:
    entry = TrialRecord(ConfigPair(ONE, OTHER), (9.0,), 9.0, 0, True, (3.0,), (6.0,))
    assert not list(last_tries([entry], PairSpace(SPACE, SPACE), regrouped))


@pytest.mark.parametrize(
    ("size", "others"),
    [(32, [64]), (64, [32, 128]), (128, [64, 256]), (256, [128]), (96, [64, 128])],
)
def test_beside_it_are_the_next_smaller_and_the_next_larger_tile(
    size: int, others: list[int]
) -> None:
    space = Space(Config(16, n, 64, 1) for n in (32, 64, 128, 256))
    found = list(beside(Config(16, size, 64, 8, 8), space))
    assert found == [Config(16, other, 64, 8, 8) for other in others]
