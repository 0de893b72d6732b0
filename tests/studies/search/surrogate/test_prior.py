"""A guess for a new problem from its siblings' times."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from autotune.spec.problem import Problem
from autotune.studies.key import StudyKey
from autotune.studies.search.history import Sibling
from autotune.studies.search.surrogate.features import COUNTS, features
from autotune.studies.search.surrogate.prior import PriorTask, _columns, sibling_prior
from autotune.studies.space import Space


def sibling(problem: Problem, space: Space, count: int) -> Sibling:
    """Times of some configs, any: only which siblings teach is tested."""
    rng = np.random.default_rng(problem.tokens)
    rows = rng.choice(len(space), count, replace=False)
    times = tuple(rng.uniform(100, 300, count).tolist())
    return Sibling(problem, tuple(space.configs[row] for row in rows), times)


def test_siblings_far_behind_the_nearest_teach_nothing(key: StudyKey, space: Space) -> None:
    """A guess from hundreds of studies would take seconds, in which a GPU waits."""
    task = PriorTask(key.problem, key.device, space)
    near = [sibling(replace(key.problem, tokens=65 + t), space, 10) for t in range(12)]
    wide = replace(key.problem, intermediate=16 * key.problem.intermediate)
    far = [sibling(replace(wide, tokens=t), space, 10) for t in range(1, 9)]
    same = np.ones(len(space))
    alone, among = sibling_prior(task, near, same), sibling_prior(task, [*far, *near], same)
    assert np.array_equal(alone.log_us, among.log_us)


def test_a_siblings_configs_have_the_same_columns_whether_or_not_the_space_has_them(
    key: StudyKey, space: Space
) -> None:
    known = sibling(replace(key.problem, tokens=48), space, 40)
    without = Space(config for config in space.configs if config not in known.configs[::2])
    counts = features(known.problem, key.device, space.configs)[:, :COUNTS]
    lacks = [config in without for config in space.configs]
    assert (counts[lacks].min(axis=0) == counts.min(axis=0)).all()  # they are none of the least
    tasks = [PriorTask(key.problem, key.device, each) for each in (space, without)]
    both, others = (_columns(task, known.problem, known.configs) for task in tasks)
    assert len(both) == 40
    assert (both == others).all()
    assert len({tuple(row) for row in both.tolist()}) > 20
