"""One contract for every sampler that --sampler offers."""

from __future__ import annotations

import pytest
from trials import ask, tell  # type: ignore[import-not-found]

from autotune.spec.measurement import Measurement
from autotune.studies.key import StudyKey
from autotune.studies.outcome import Outcome, TrialResult
from autotune.studies.search.batch_sampler import BatchSampler
from autotune.studies.search.samplers import SAMPLERS
from autotune.studies.space import Space
from autotune.studies.storage.open import open_storage
from autotune.studies.study_record import open_study

FAST = [name for name in SAMPLERS if name != "gp"]


def _proposals(
    name: str, database: str, key: StudyKey, space: Space, *, count: int, parallel: int = 1
) -> list[str]:
    storage = open_storage(database, create=True)
    study = open_study(storage, key, SAMPLERS[name](space, 7), {"model": "m"})
    seen = []
    while len(seen) < count:
        batch = [ask(study, space) for _ in range(parallel)]
        for asked in batch:
            assert asked.config in space
            seen.append(str(asked.config))
            us = float(asked.config.block_size_m + asked.config.num_stages)
            bad = asked.config.num_warps == 8
            outcome = Outcome.COMPILE_ERROR if bad else Outcome.OK
            measurement = None if bad else Measurement((us,), "test")
            tell(study, asked, TrialResult(outcome, measurement), None)
    return seen


@pytest.mark.parametrize("name", SAMPLERS)
@pytest.mark.parametrize("parallel", [1, 4])
def test_never_a_repeat_never_outside(
    name: str, parallel: int, database: str, key: StudyKey, space: Space
) -> None:
    count = 16 if name == "gp" else 40
    seen = _proposals(name, database, key, space, count=count, parallel=parallel)
    assert len(set(seen)) == len(seen)


@pytest.mark.parametrize("name", FAST)
def test_a_seed_makes_it_repeatable(name: str, database: str, key: StudyKey, space: Space) -> None:
    one = _proposals(name, database, key, space, count=20)
    two = _proposals(name, database.replace(".db", "2.db"), key, space, count=20)
    assert one == two


@pytest.mark.parametrize("name", SAMPLERS)
def test_it_exhausts_a_small_space(name: str, database: str, key: StudyKey, space: Space) -> None:
    small = Space(space.configs[::300])
    seen = _proposals(name, database, key, small, count=len(small))
    assert set(seen) == {str(config) for config in small.configs}


@pytest.mark.parametrize("name", SAMPLERS)
def test_the_surrogate_alone_is_a_batch_sampler(name: str, space: Space) -> None:
    assert isinstance(SAMPLERS[name](space, 0), BatchSampler) == (name == "surrogate")
