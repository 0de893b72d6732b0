"""A guess for a new problem from its siblings' times: trees over physics, and direct look-up.

They learn slowness: log time over the sibling's own best, so that levels cancel.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from autotune.spec.arrays import Floats
from autotune.spec.config import Config
from autotune.spec.device import Device
from autotune.spec.problem import Problem
from autotune.studies.search.history import Sibling, likeness
from autotune.studies.search.surrogate.features import COUNTS, features
from autotune.studies.search.surrogate.model import Prior
from autotune.studies.search.surrogate.trees import Columns, extra_trees, votes_of
from autotune.studies.space import Space

_MOST = 12
"""Siblings that teach, the most alike. A storage may hold hundreds, of other models: from 166 of
them a guess took 6 s, in which a GPU would wait."""
_TREES = 60
_TAIL = 1.2
"""Slowness beyond 3.3 times the best teaches nothing about the fast end."""
_LOOK_UP = 0.5
"""Share of the look-up where a sibling just like this one measured the same config."""
_ERROR = 0.12
"""Deviation of log times from the guess. (The time model's: 0.14 to 0.19 on an H200.)"""
_HALF_BELIEVED = 0.03
"""Likeness of the nearest sibling at which its lesson counts half. Slope of measured on guessed
slowness from the other recorded model: 0.7 to 0.9 at a likeness of 0.05 to 0.06 (three spaces),
0.07 at 0.02 (one). Chosen on these, so races on them flatter it."""


@dataclass(frozen=True, slots=True)
class PriorTask:
    """A problem whose space needs a prior. Much of the work is remembered by its space."""

    problem: Problem
    device: Device
    space: Space


def sibling_prior(
    task: PriorTask, siblings: Sequence[Sibling], static_us: Floats, *, seed: int = 0
) -> Prior:
    """Return the guess for the configs of ``task.space``.

    ``static_us`` is a guess without measurements (``Measurer.prior_us`` or ``rough_time``): it
    stands in for siblings as far as these are unlike the problem.
    """
    static, odds = _slowness(static_us), 1 / _HALF_BELIEVED
    if not siblings:
        return Prior(static, _ERROR, odds)
    siblings = sorted(siblings, key=lambda s: -likeness(s.problem, task.problem))[:_MOST]
    near = likeness(siblings[0].problem, task.problem)
    learnt = near / (near + _HALF_BELIEVED) * _learnt(task, siblings, seed)
    return Prior(near * learnt + (1 - near) * static, _ERROR, odds)


def _learnt(task: PriorTask, siblings: Sequence[Sibling], seed: int) -> Floats:
    weights = [likeness(sibling.problem, task.problem) for sibling in siblings]
    columns = np.concatenate([_columns(task, s.problem, s.configs) for s in siblings])
    slowness = [_slowness(np.array(sibling.geomean_us)) for sibling in siblings]
    each = [np.full(len(s), weight) for s, weight in zip(slowness, weights, strict=True)]
    sample = columns, np.concatenate(slowness), np.concatenate(each)
    trees = extra_trees([sample] * _TREES, seed, min_samples_leaf=2, max_features=0.7)
    votes = votes_of(trees, _space_columns(task.problem, task.device, task.space))
    guess: Floats = votes.mean(axis=0)
    looked_up, share = _looked_up(task.space, siblings, weights)
    return (1 - share) * guess + share * looked_up


def _looked_up(
    space: Space, siblings: Sequence[Sibling], weights: Sequence[float]
) -> tuple[Floats, Floats]:
    """Return what siblings measured of the very same configs, and the share that it deserves."""
    total, weight_of = np.zeros(len(space)), np.zeros(len(space))
    for sibling, weight in zip(siblings, weights, strict=True):
        slowness = _slowness(np.array(sibling.geomean_us))
        for config, value in zip(sibling.configs, slowness, strict=True):
            row = space.row_of.get(config)
            if row is not None:
                total[row] += weight * value
                weight_of[row] += weight
    return total / np.maximum(weight_of, 1e-12), _LOOK_UP * np.minimum(weight_of, 1)


def _columns(task: PriorTask, problem: Problem, configs: Sequence[Config]) -> Columns:
    """Return the trees' inputs of a sibling's configs, of which some may not be in the space."""
    row_of, whole = task.space.row_of, _space_columns(problem, task.device, task.space)
    columns = whole[[row_of.get(config, 0) for config in configs]]
    others = [number for number, config in enumerate(configs) if config not in row_of]
    if others:
        columns[others] = _table(problem, task.device, task.space, [configs[n] for n in others])
    return columns


@lru_cache(maxsize=64)
def _space_columns(problem: Problem, device: Device, space: Space) -> Columns:
    """Return the trees' inputs of a whole space: a run's studies ask for the same. Must not be
    changed."""
    return _table(problem, device, space, space.configs)


def _table(problem: Problem, device: Device, space: Space, configs: Sequence[Config]) -> Columns:
    """Return the trees' inputs: absolute, and relative to the least that any config of the space
    needs on that problem, which compares problems of unlike size."""
    knobs = np.array([_codes(config) for config in configs])
    physics = features(problem, device, configs)
    least = _least(problem, device, space)
    rows = np.log2(problem.tokens * problem.top_k / (problem.experts * problem.ep_size))
    level = np.full(len(configs), rows)
    columns = np.column_stack([knobs, physics, physics[:, :COUNTS] - least, level])
    return np.ascontiguousarray(columns, dtype=np.float32)


@lru_cache(maxsize=256)
def _least(problem: Problem, device: Device, space: Space) -> Floats:
    """Return the least of each count [COUNTS] over the space."""
    least: Floats = features(problem, device, space.configs)[:, :COUNTS].min(axis=0)
    return least


def _codes(config: Config) -> list[float]:
    sizes = (config.block_size_m, config.block_size_n, config.block_size_k, config.group_size_m)
    others = (config.waves_per_eu, config.matrix_instr_nonkdim, config.kpack, config.use_tma)
    rest = [-1.0 if value is None else float(value) for value in others]
    return [*map(float, np.log2(sizes)), config.num_warps, config.num_stages, *rest]


def _slowness(us: Floats) -> Floats:
    slow: Floats = np.minimum(np.log(us) - np.log(us.min()), _TAIL)
    return slow
