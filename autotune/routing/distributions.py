"""Distributions of expert popularity: names, as ``--routing`` takes them, and scores.

    uniform         the top-k of normal gates, as the engines' scripts draw them
    zipf:A          the r-th most popular expert is drawn with probability ∝ r^-A
    dirichlet:C     popularities drawn from a symmetric Dirichlet(C): the smaller C, the less even
    balanced        every expert gets as many rows as any other, give or take one
    worst           all tokens visit the same experts, of the rank that is tuned as far as it has
                    enough
    grouped:G:T     top-k within the best T of G groups of experts, ranked by the sum of their two
                    best gates, as DeepSeek-V3 routes

Which experts are popular is another draw in each instance. A token's experts are distinct.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from autotune.errors import UsageError
from autotune.spec.ranges import EXPERTS, Range

Gates = NDArray[np.float64]
"""[M, experts] log-scores; the top-k of a row are its experts."""
Numbers = tuple[float, ...]

_DIRICHLET = Range(0.01, 1_000_000, is_real=True)
"""Below it most draws of a Dirichlet underflow, and what is left is even."""
_GROUPS = Range(1, EXPERTS.most, is_real=True)


@dataclass(frozen=True, slots=True)
class Size:
    """The size of a draw: ``tokens`` rows of ``top_k`` out of ``experts``."""

    tokens: int
    experts: int
    top_k: int
    ep_size: int = 1
    """Ranks that share the experts; each holds as many, in order."""
    ep_rank: int = 0
    """The rank that is tuned."""


@dataclass(frozen=True, slots=True)
class Distribution:
    """One name of the table."""

    form: str
    """The spelling, for messages."""
    gates: Callable[[np.random.Generator, Size, Numbers], Gates]
    numbers: tuple[Range, ...] = ()
    """The numbers after the name."""
    why_not: Callable[[Size, Numbers], str | None] = lambda _size, _numbers: None


def gates(routing: str, rng: np.random.Generator, size: Size) -> Gates:
    """Raises UsageError as ``check`` does."""
    check(routing, size)
    distribution, numbers = _parsed(routing)
    return distribution.gates(rng, size, numbers)


def check(routing: str, size: Size) -> None:
    """Raises UsageError for an unknown name, or numbers that cannot be or do not suit the size."""
    distribution, numbers = _parsed(routing)
    reason = distribution.why_not(size, numbers)
    if reason is not None:
        raise UsageError(f"routing {routing!r}: {reason}")


def canonical(routing: str) -> str:
    """Return one spelling for zipf:1, zipf:1.0 and zipf:1e0; what is not of this table stays."""
    name, *texts = routing.split(":")
    if name not in DISTRIBUTIONS:
        return routing
    try:
        return ":".join([name, *(repr(float(text) + 0.0).removesuffix(".0") for text in texts)])
    except ValueError:
        return routing  # what is wrong with it is said where it is checked


def _parsed(routing: str) -> tuple[Distribution, Numbers]:
    """Return the distribution that is named, and its numbers. Raises UsageError."""
    name, *texts = routing.split(":")
    distribution = DISTRIBUTIONS.get(name)
    if distribution is None:
        forms = ", ".join(each.form for each in DISTRIBUTIONS.values())
        raise UsageError(
            f"unknown routing {routing!r}; allowed are {forms}, and with --topk-ids-dir recorded. "
            "Try zipf:1.2"
        )
    try:
        numbers = tuple(float(text) for text in texts)
    except ValueError:
        numbers = ()
    if len(numbers) != len(distribution.numbers):
        more = " with numbers" if distribution.numbers else " without a number"
        raise UsageError(f"routing {routing!r}: write {distribution.form}{more}")
    for allowed, number in zip(distribution.numbers, numbers, strict=True):
        allowed.check(f"routing {routing!r}: write {distribution.form}. Its number", number)
    return distribution, numbers


def _uniform(rng: np.random.Generator, size: Size, _: Numbers) -> Gates:
    return rng.standard_normal((size.tokens, size.experts))


def _zipf(rng: np.random.Generator, size: Size, numbers: Numbers) -> Gates:
    popularity = -numbers[0] * np.log(np.arange(1, size.experts + 1))
    return _drawn(rng, size, rng.permutation(popularity))


def _dirichlet(rng: np.random.Generator, size: Size, numbers: Numbers) -> Gates:
    # Gamma draws, normalised, are a Dirichlet draw. Of C = 0.01 one in a thousand underflows to 0.
    shares = rng.gamma(numbers[0], size=size.experts)
    return _drawn(rng, size, np.log(np.maximum(shares, np.finfo(float).tiny)))


def _drawn(rng: np.random.Generator, size: Size, log_popularity: Gates) -> Gates:
    """Top-k of log-probabilities with Gumbel noise is a draw without replacement."""
    noise: Gates = rng.gumbel(size=(size.tokens, size.experts))
    return log_popularity + noise


def _balanced(rng: np.random.Generator, size: Size, _: Numbers) -> Gates:
    slots = np.arange(size.tokens * size.top_k).reshape(size.tokens, size.top_k)
    ids = rng.permutation(size.experts)[slots % size.experts]
    return _chosen(rng, size, rng.permutation(ids))


def _worst(rng: np.random.Generator, size: Size, _: Numbers) -> Gates:
    local = size.experts // size.ep_size
    every = np.arange(size.experts)
    is_own = every // local == size.ep_rank
    ids = np.concatenate([rng.permutation(every[is_own]), rng.permutation(every[~is_own])])
    return _chosen(rng, size, np.tile(ids[: size.top_k], (size.tokens, 1)))


def _chosen(rng: np.random.Generator, size: Size, ids: NDArray[np.int64]) -> Gates:
    """Gates of which the top-k are ``ids`` [M, top_k]."""
    table = np.full((size.tokens, size.experts), -np.inf)
    np.put_along_axis(table, ids, rng.standard_normal(ids.shape), axis=1)
    return table


def _grouped(rng: np.random.Generator, size: Size, numbers: Numbers) -> Gates:
    groups, kept = (int(number) for number in numbers)
    table = rng.standard_normal((size.tokens, groups, size.experts // groups))
    scores = np.sort(table, axis=2)[:, :, -2:].sum(axis=2)
    dropped = np.argsort(-scores, axis=1)[:, kept:]
    np.put_along_axis(table, dropped[:, :, None], -np.inf, axis=1)
    return table.reshape(size.tokens, size.experts)


def _why_not_grouped(size: Size, numbers: Numbers) -> str | None:
    if not all(number.is_integer() for number in numbers):
        return "G and T of grouped:G:T are whole numbers"
    groups, kept = (int(number) for number in numbers)
    if size.experts % groups:
        return f"{groups} groups do not divide {size.experts} experts"
    if kept > groups:
        return f"a token cannot keep {kept} of {groups} groups"
    if kept * (size.experts // groups) < size.top_k:
        return f"{kept} groups of {size.experts // groups} experts hold fewer than {size.top_k}"
    return None


DISTRIBUTIONS: Mapping[str, Distribution] = {
    "uniform": Distribution("uniform", _uniform),
    "zipf": Distribution("zipf:A", _zipf, (Range(0, 100, is_real=True),)),
    "dirichlet": Distribution("dirichlet:C", _dirichlet, (_DIRICHLET,)),
    "balanced": Distribution("balanced", _balanced),
    "worst": Distribution("worst", _worst),
    "grouped": Distribution("grouped:G:T", _grouped, (_GROUPS, _GROUPS), _why_not_grouped),
}
