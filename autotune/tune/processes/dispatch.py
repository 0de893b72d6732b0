"""Calls on child processes: whoever is idle takes the next; a dead or hung one costs one call."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import wait
from typing import Any, Generic, TypeVar

from autotune.intervals import LULL_S
from autotune.tune.processes.child import Child, ChildFault

Item = TypeVar("Item")


@dataclass(frozen=True, slots=True)
class Call(Generic[Item]):
    """A method of what the child holds, and what the call is about."""

    item: Item
    method: str
    args: tuple[Any, ...]
    kwargs: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Answer(Generic[Item]):
    """What became of a call: ``value``, or a fault where the child died or raised."""

    item: Item
    value: Any = None
    fault: ChildFault | None = None
    timed_out: bool = False


def answers(
    children: Sequence[Child],
    calls: Iterator[Call[Item]],
    *,
    timeout_s: float,
    is_over: Callable[[], bool] = lambda: False,
    leave_s: float = 5.0,
) -> Iterator[Answer[Item]]:
    """Every call's answer, as they come. ``calls`` is read when a child is idle, so a call may
    depend on the answers so far.

    Once ``is_over``, nothing more is called, and what is in hand gets ``leave_s`` to end; the
    children of the rest are killed and started afresh. Raises the AutotuneError of a call.
    """
    work: dict[Child, Item] = {}
    waited_s = 0.0
    while True:
        over = is_over()
        if not over:
            _hand_out(children, calls, work)
        if not work:
            return
        ready = _ready(work)
        for child in ready:
            yield _answer(child, work.pop(child))
        for child in [c for c in work if c.waited_s > timeout_s]:
            child.restart()
            yield Answer(work.pop(child), timed_out=True)
        waited_s = waited_s + LULL_S if over and not ready else 0.0
        if waited_s > leave_s:
            for child in work:
                child.restart()
            return


def _hand_out(
    children: Sequence[Child], calls: Iterator[Call[Item]], work: dict[Child, Item]
) -> None:
    for child in children:
        if child in work:
            continue
        call = next(calls, None)
        if call is None:
            return
        child.submit(call.method, *call.args, **call.kwargs)
        work[child] = call.item


def _ready(work: dict[Child, Item]) -> list[Child]:
    by_connection = {child.connection: child for child in work}
    found = wait(list(by_connection), timeout=LULL_S)
    return [by_connection[connection] for connection in found]  # type: ignore[index]


def _answer(child: Child, item: Item) -> Answer[Item]:
    value = child.receive()
    if isinstance(value, ChildFault):
        child.restart()
        return Answer(item, fault=value)
    return Answer(item, value)
