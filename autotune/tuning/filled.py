"""Entries for the batch sizes that a run did not tune: what the engine would launch there anyway.

Where an engine has a file, it launches nothing by itself any more, but takes the nearest batch
size's entry. So a file of a few tuned batch sizes says for the engines' others what was launched
before it was there.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace

from autotune.engines import DEFAULT_TOKENS, Engine
from autotune.engines.entries import nearest
from autotune.engines.opening import folders_read, opening
from autotune.engines.served_sizes import NEAR
from autotune.errors import EngineFileError
from autotune.spec.config import Config, ConfigPair, pair_of
from autotune.spec.device import Device
from autotune.spec.problem import KernelMode, Problem
from autotune.studies.pairs import completed_as_asked
from autotune.tuning.jobs import may_write

Table = Mapping[int, Config]
"""Token count → config, of a file."""


def by_itself(engine: Engine, problem: Problem, device: Device) -> ConfigPair | None:
    """Return what the engine launches without a file of ours, by the file that it ships or its
    rule; None where an entry cannot say it."""
    try:
        opened = opening(engine, folders_read(engine, None), problem, device)
    except (EngineFileError, ValueError):
        return None
    if opened.found is not None and opened.found.options:
        return None
    separate = replace(problem, kernel=KernelMode.SEPARATE)
    down = opened.down.config if opened.down else None
    pair = pair_of(completed_as_asked(separate, device, opened.config, down))
    return pair if may_write(engine, problem, device, pair) else None


def filled(
    engine: Engine,
    problem: Problem,
    device: Device,
    tuned: Collection[int],
    before: tuple[Table, Table],
) -> dict[int, ConfigPair]:
    """Return the entries to add for the engines' batch sizes that are neither tuned nor in the up
    and down files of ``before``, whose nearest entries are taken where there are any."""
    (up, down), found = before, dict[int, ConfigPair]()
    for tokens in DEFAULT_TOKENS:
        if tokens in up or _is_ruled(tokens, tuned):
            continue
        if up:
            first = up[nearest(up, tokens)]
            second = down[nearest(down, tokens)] if down else first
            pair = ConfigPair(first, replace(second, block_size_m=first.block_size_m))
            if may_write(engine, problem, device, pair):
                found[tokens] = pair
        elif (own := by_itself(engine, replace(problem, tokens=tokens), device)) is not None:
            found[tokens] = own
    return found


def _is_ruled(tokens: int, tuned: Collection[int]) -> bool:
    """True for a batch size that was tuned, or that a tuned one is to rule: sizes that a server
    ran (``--batch-size auto``) are each for the steps near it, which a key between would take."""
    if set(tuned) <= set(DEFAULT_TOKENS):
        return tokens in tuned
    return any(max(tokens / size, size / tokens) <= NEAR for size in tuned)


def filled_words(
    engine: Engine, problem: Problem, device: Device, tuned: Collection[int], up: Table
) -> str | None:
    """Return a line on the entries of an ``up`` file that were not tuned now: by what they say,
    those of ``filled`` and those that stay. None where it has none."""
    others = sorted(set(up) - set(tuned))
    own = [tokens for tokens in others if _is_its_own(engine, problem, device, tokens, up[tokens])]
    how = "" if engine.package_folder() else " (by its rule: it is not installed here)"
    words = []
    if own:
        words.append(
            f"{_listed(own)} tokens were not tuned now: there it has what {engine.title} launches "
            f"by itself{how}, which would take the nearest tuned config else"
        )
    if stay := [tokens for tokens in others if tokens not in own]:
        words.append(f"for {_listed(stay)} tokens it says what it said before")
    return "; ".join(words) or None


def _is_its_own(
    engine: Engine, problem: Problem, device: Device, tokens: int, config: Config
) -> bool:
    """True for the entry that the engine's own choice would be."""
    own = by_itself(engine, replace(problem, tokens=tokens), device)
    said = engine.parse(engine.body({tokens: own.up}, problem, device)) if own else {}
    return said.get(tokens) == config


def _listed(sizes: Sequence[int]) -> str:
    return ", ".join(map(str, sizes))
