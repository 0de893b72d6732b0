"""Checks of what stands in an engine file."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from autotune.engines.entries import as_tokens, config_of, faults
from autotune.engines.finding import Finding, Level, assumed
from autotune.engines.names import NameParts
from autotune.engines.protocol import DEFAULT_TOKENS, Engine


def check_body(
    body: Mapping[str, Any], engine: Engine, parts: NameParts | None, triton_version: str | None
) -> Iterator[Finding]:
    """Findings about every key and entry; without ``parts``, those that need no problem."""
    for key, value in body.items():
        if key in engine.header:
            if triton_version and value != triton_version:
                yield Finding(Level.WARNING, key, f"tuned with {value}, not {triton_version}")
        elif as_tokens(key) is None:
            message = f"{key!r} is not a token count: {engine.title} fails to load the file"
            yield Finding(Level.ERROR, key, message)
        else:
            yield from _check_entry(key, value, engine, parts)
    yield from _check_tokens(body)


def _check_tokens(body: Mapping[str, Any]) -> Iterator[Finding]:
    missing = set(DEFAULT_TOKENS) - {as_tokens(key) for key in body}
    if missing:
        listed = ", ".join(map(str, sorted(missing)))
        message = f"no entry for {listed} tokens: a neighbour's config is used, not the default"
        yield Finding(Level.WARNING, "file", message)


def _check_entry(
    key: str, entry: object, engine: Engine, parts: NameParts | None
) -> Iterator[Finding]:
    wrong = [Finding(Level.ERROR, key, fault) for fault in faults(entry, engine.keys)]
    if wrong or not isinstance(entry, dict):
        yield from wrong
        return
    unset = [name for name in ("num_warps", "num_stages") if name not in entry]
    if unset:
        message = f"{' and '.join(unset)} left to Triton (4 warps, 3 stages)"
        yield Finding(Level.WARNING, key, message)
    if parts is not None:
        yield from _check_for_problem(key, entry, engine, parts)


def _check_for_problem(
    key: str, entry: Mapping[str, Any], engine: Engine, parts: NameParts
) -> Iterator[Finding]:
    problem, device = assumed(parts)
    for name, value in engine.constants(problem).items():
        if name not in entry:
            message = f"{name}: {value} is missing: {engine.title}'s kernel needs it"
            yield Finding(Level.ERROR, key, message)
    config = config_of(entry)
    launched = engine.launched(problem, config)
    if launched != config:
        message = f"{engine.title} clamps to the scale block: it launches {launched}, not {config}"
        yield Finding(Level.WARNING, key, message)
    if reason := engine.why_illegal(problem, device, launched):
        yield Finding(Level.ERROR, key, reason)
