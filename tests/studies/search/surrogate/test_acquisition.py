"""What compiled badly comes later, and comes."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import optuna
from trials import ask, tell  # type: ignore[import-not-found]

from autotune.spec.config import Config
from autotune.spec.measurement import Measurement
from autotune.spec.occupancy import Footprint
from autotune.studies.key import StudyKey
from autotune.studies.outcome import Outcome, TrialResult
from autotune.studies.search.surrogate.acquisition import (
    HEAVY_SPILL_BYTES,
    Acquisition,
    GpPart,
    haste,
    lighter,
    weights,
)
from autotune.studies.search.surrogate.sampler import TransferSampler
from autotune.studies.space import Space

HEAVY, LIGHT = Footprint(HEAVY_SPILL_BYTES, 2), Footprint(HEAVY_SPILL_BYTES - 1, 2)
ALONE = Footprint(0, 1)


def test_heavy_spills_weigh_least_and_what_is_alone_a_little_less() -> None:
    known = {0: HEAVY, 1: LIGHT, 2: ALONE, 3: Footprint(0, None)}
    heavy, light, alone, unknown, untold = weights(known, 5)
    assert 0 < heavy < alone < 1
    assert light == unknown == untold == 1
    assert lighter(np.arange(5), weights(known, 5)).tolist() == [1, 2, 3, 4]
    assert lighter(np.array([0]), weights(known, 5)).tolist() == [0]
    assert lighter(np.arange(5), None).tolist() == [0, 1, 2, 3, 4]


def _first(mean: float, footprint: Footprint) -> int:
    """Of one with that believed log time and what it takes, and one that equals the best."""
    posterior = SimpleNamespace(mean=np.array([mean, 0.0]), deviation=np.array([0.02, 0.02]))
    part = GpPart(1.0, posterior, np.zeros(2))  # type: ignore[arg-type]
    acquisition = Acquisition(np.arange(2), 0.0, [part], weight=weights({0: footprint}, 2))
    return int(acquisition.likely(1)[0])


def test_demoted_is_not_forbidden() -> None:
    assert _first(-0.1, Footprint(0, 2)) == 0
    assert _first(-0.1, HEAVY) == 1
    assert _first(-0.3, HEAVY) == 0  # clearly the best, in spite of that
    assert _first(-0.001, ALONE) == 1
    assert _first(-0.02, ALONE) == 0


def test_what_is_compiled_anyway_comes_first_of_its_like() -> None:
    begun, later, another = haste([0, 2], 3)[[0, 1, 2]]
    assert begun == another == 1
    assert 0 < later < 1


def _asked(
    key: StudyKey,
    space: Space,
    told: dict[int, Footprint] | None,
    begun: list[Config] | None = None,
) -> list[int]:
    """Rows in the order in which they are asked, all of them; times follow num_stages."""
    study = optuna.create_study(
        sampler=TransferSampler(
            space,
            0,
            footprints=None if told is None else lambda: told,
            begun=None if begun is None else lambda: begun,
        )
    )
    study.set_user_attr("key", key.as_json())
    rows = []
    for _ in range(len(space)):
        asked = ask(study, space)
        rows.append(space.configs.index(asked.config))
        us = 100.0 + 10 * asked.config.num_stages + asked.config.group_size_m / 10
        tell(study, asked, TrialResult(Outcome.OK, Measurement((us,), "test")), None)
    return rows


def test_what_spills_comes_last_of_its_like_and_all_is_asked(key: StudyKey, space: Space) -> None:
    few = Space(space.configs[::29][:30])
    spilling = range(0, len(few), 2)
    told = dict.fromkeys(spilling, HEAVY)
    rows, without = _asked(key, few, told), _asked(key, few, None)
    assert sorted(rows) == list(range(len(few)))
    turn, before = (np.mean([order.index(row) for row in spilling]) for order in (rows, without))
    assert turn > before + 2
    assert rows == _asked(key, few, told)


def test_nothing_changes_where_all_compiled_well(key: StudyKey, space: Space) -> None:
    few = Space(space.configs[::29][:25])
    assert _asked(key, few, dict.fromkeys(range(25), LIGHT)) == _asked(key, few, None)


def test_what_others_compile_comes_first_and_all_is_asked(key: StudyKey, space: Space) -> None:
    few = Space(space.configs[::29][:30])
    begun = range(0, len(few), 2)
    configs = [*(few.configs[row] for row in begun), Config(1, 2, 4, 8)]  # one is of another space
    rows, without = _asked(key, few, None, configs), _asked(key, few, None)
    assert sorted(rows) == list(range(len(few)))
    turn, before = (np.mean([order.index(row) for row in begun]) for order in (rows, without))
    assert turn < before - 0.5
    told = dict.fromkeys(begun, LIGHT)
    assert _asked(key, few, told, []) == rows  # who has a footprint is compiled


def test_what_there_is_to_gain_does_not_depend_on_what_is_compiled(
    key: StudyKey, space: Space
) -> None:
    gains = []
    for begun in (None, [], list(space.configs[:300])):
        sampler = TransferSampler(space, 0, begun=None if begun is None else lambda b=begun: b)
        study = optuna.create_study(sampler=sampler)
        study.set_user_attr("key", key.as_json())
        for row in range(0, 400, 20):
            study.enqueue_trial(space.configs[row].as_keys())
            study.tell(ask(study, space).number, 100.0 + row)
        gains.append(sampler.expected_gain(study))
    assert 0 < gains[0] < 1
    assert gains[1:] == [gains[0]] * 2
