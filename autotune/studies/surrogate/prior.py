"""From siblings' times to a guess for a new problem: trees over physics, and direct look-up.

What is learnt is slowness: log time over the sibling's own best, so that levels cancel.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from sklearn.ensemble import ExtraTreesRegressor

from autotune.kernels.config import Config
from autotune.kernels.device import Device
from autotune.kernels.problem import Problem
from autotune.studies.history import Sibling, likeness
from autotune.studies.surrogate.candidates import candidates_of
from autotune.studies.surrogate.features import features
from autotune.studies.surrogate.model import Prior

Floats = NDArray[np.float64]

_TREES = 60
_TAIL = 1.2
"""Slowness beyond 3.3 times the best teaches nothing about the fast end."""
_LOOK_UP = 0.5
"""Share of the look-up where a sibling just like this one measured the same config."""
_ERROR = 0.12
"""Deviation of log times from the guess where the nearest sibling is an equal problem; it grows
as likeness falls, up to ``_UNLIKE_ERROR``."""
_UNLIKE_ERROR = 0.3


def sibling_prior(
    problem: Problem,
    device: Device,
    configs: Sequence[Config],
    siblings: Sequence[Sibling],
    *,
    sms: int,
    seed: int = 0,
    static_us: Sequence[float] | None = None,
) -> Prior | None:
    """The guess for ``configs``; None where nothing is known.

    ``static_us`` is a guess without measurements (``Measurer.prior_us``): it stands in for
    siblings as far as these are unlike the problem.
    """
    static = None if static_us is None else _slowness(np.asarray(static_us, dtype=float))
    if not siblings:
        return None if static is None else Prior(static, _ERROR)
    near = max(likeness(sibling.problem, problem) for sibling in siblings)
    learnt = _learnt(problem, device, configs, siblings, sms, seed)
    error = _ERROR + (_UNLIKE_ERROR - _ERROR) * (1 - near)
    if static is None:
        return Prior(learnt, error)
    return Prior(near * learnt + (1 - near) * static, _ERROR)


def _learnt(
    problem: Problem,
    device: Device,
    configs: Sequence[Config],
    siblings: Sequence[Sibling],
    sms: int,
    seed: int,
) -> Floats:
    weights = [likeness(sibling.problem, problem) for sibling in siblings]
    columns = [_columns(s.problem, device, s.configs, sms) for s in siblings]
    slowness = [_slowness(np.array(sibling.median_us)) for sibling in siblings]
    each = [np.full(len(s), weight) for s, weight in zip(slowness, weights, strict=True)]
    trees = ExtraTreesRegressor(_TREES, min_samples_leaf=2, max_features=0.7, random_state=seed)
    trees.fit(np.concatenate(columns), np.concatenate(slowness), np.concatenate(each))
    guess: Floats = trees.predict(_columns(problem, device, configs, sms))
    return _looked_up(configs, siblings, weights, slowness, guess)


def _looked_up(
    configs: Sequence[Config],
    siblings: Sequence[Sibling],
    weights: Sequence[float],
    slowness: Sequence[Floats],
    guess: Floats,
) -> Floats:
    """``guess`` mixed with what siblings measured of the very same config."""
    row_of = {config: row for row, config in enumerate(configs)}
    total, weight_of = np.zeros(len(configs)), np.zeros(len(configs))
    for sibling, weight, slow in zip(siblings, weights, slowness, strict=True):
        for config, value in zip(sibling.configs, slow, strict=True):
            row = row_of.get(config)
            if row is not None:
                total[row] += weight * value
                weight_of[row] += weight
    share = _LOOK_UP * np.minimum(weight_of, 1)
    mean = total / np.maximum(weight_of, 1e-12)
    return (1 - share) * guess + share * mean


def _columns(problem: Problem, device: Device, configs: Sequence[Config], sms: int) -> Floats:
    """What trees see of a config on a problem: in absolute terms, so that problems compare."""
    knobs = np.array([_codes(config) for config in configs])
    physics = features(problem, device, configs, sms)
    rows = np.log2(problem.tokens * problem.top_k / (problem.experts * problem.ep_size))
    return np.column_stack([knobs, physics, np.full(len(configs), rows)])


def _codes(config: Config) -> list[float]:
    sizes = (config.block_size_m, config.block_size_n, config.block_size_k, config.group_size_m)
    others = (config.waves_per_eu, config.matrix_instr_nonkdim, config.kpack, config.use_tma)
    rest = [-1.0 if value is None else float(value) for value in others]
    return [*map(float, np.log2(sizes)), config.num_warps, config.num_stages, *rest]


def _slowness(us: Floats) -> Floats:
    slow: Floats = np.minimum(np.log(us) - np.log(us.min()), _TAIL)
    return slow
