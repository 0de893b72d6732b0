"""What each knob does alone: an additive part of a Gaussian process.

Σ over knobs of w² · Matérn(|u - u'| / l). Ten measurements say little about ten knobs together, but
something about each. Where physical features are known, they say it better, and this is left out.
A knob has few values, so its part is the inner product of as many columns.
"""

from __future__ import annotations

import numpy as np

from autotune.spec.arrays import Floats
from autotune.studies.search.surrogate.gp import Inputs, matern
from autotune.studies.search.surrogate.hyperparameters import WEIGHT

_LENGTH = 0.25
"""Of a knob's span: neighbouring values are alike, others hardly."""
_AMPLITUDE = 1.0
"""Prior deviation of what one knob does, in units of the values' deviation. 0 leaves the part out:
what that costs is in benchmarks/samplers/README.md."""


def with_alone(at: Inputs, unit: Floats) -> Inputs:
    """The same inputs and what each knob ``unit`` [n, d], from 0 to 1, does alone."""
    blocks = [_block(knob) for knob in unit.T]
    group = np.repeat(np.arange(len(blocks)), [block.shape[1] for block in blocks])
    return Inputs(
        at.smooth,
        np.column_stack([at.linear, *blocks]),
        np.concatenate([at.group, at.groups + group]),
    )


def _block(knob: Floats) -> Floats:
    """[n, values of the knob] columns of mean 0 whose inner products are the covariance."""
    values, place = np.unique(knob, return_inverse=True)
    covariance = matern(((values[:, None] - values[None]) / _LENGTH) ** 2)
    covariance[np.diag_indices_from(covariance)] += 1e-9
    columns = np.linalg.cholesky(covariance)[place] * (_AMPLITUDE / WEIGHT)
    centred: Floats = columns - columns.mean(axis=0)
    return centred
