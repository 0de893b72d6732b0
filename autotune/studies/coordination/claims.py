"""Taking trials so that no two workers measure the same, on any storage.

In a database a worker reads the study and creates its trials in one transaction, in which nobody
else creates any: what is taken, or no longer wanted, never becomes a trial.

Elsewhere, and for queued trials, it is Lamport's bakery, with the trial's number as the ticket: a
worker first creates its trial, running and with its parameters, and then reads the study. Where a
trial with a lower number has the same config, or those before it already fill the study's goal,
it gives its own up. Of any two, one was created first, and the other one's reading comes after
both.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState

from autotune.intervals import POLL_S
from autotune.spec.config import config_from_keys
from autotune.studies.coordination.leases import Census
from autotune.studies.coordination.study_view import StudyView
from autotune.studies.search.batch_sampler import BatchSampler
from autotune.studies.space import SearchSpace
from autotune.studies.storage.rdb_transactions import (
    FIXED,
    WORKER,
    Place,
    begin,
    begin_chosen,
    database_of,
    give_back,
    take,
)
from autotune.studies.trial_io import Asked, abandon, distributions
from autotune.studies.trial_record import asked_config, config_of

_HALF_MADE_S = 5.0
"""How long to wait for the parameters of a trial that somebody began before ours."""
_TRIES = 3
"""Proposals anew where others took all of them meanwhile."""


def claim(
    study: Study, space: SearchSpace, view: StudyView, worker: str, *, count: int, goal: int
) -> list[Asked]:
    """At most ``count`` trials of this worker, created and nobody else's: queued ones first, then
    what the sampler proposes. Fewer, or none, where others were faster: read and try again.

    ``goal`` is how many measurements the study shall have; the view was read just before.
    """
    queued = _queued(view, space)[:count]
    places = [
        (Place(trial._trial_id, trial.number), trial.system_attrs[FIXED])
        for trial in queued
        if take(study, trial, distributions(space), worker)
    ]
    if queued:
        return _kept(study, view, _asked(places), goal, from_queue=True) if places else []
    for _ in range(_TRIES):
        params = proposals(study, space, count)
        asked = _begun(study, space, view, params, worker=worker, goal=goal)
        if asked or not _room(view, space, goal):
            return asked
    return []


def proposals(study: Study, space: SearchSpace, count: int) -> list[dict[str, Any]]:
    """Parameters that the sampler would ask for next, none of them created: several where it can
    propose several at once, else one."""
    sampler = study.sampler
    if isinstance(sampler, BatchSampler):
        return sampler.propose(study, count)
    trials = study.get_trials(deepcopy=False)
    trial = _imagined(len(trials))
    sampler.before_trial(study, trial)
    wanted = sampler.infer_relative_search_space(study, trial)
    params = sampler.sample_relative(study, trial, wanted)
    for name, distribution in distributions(space).items():
        if name not in params:
            params[name] = sampler.sample_independent(study, trial, name, distribution)
    return [params]


def sweep(
    study: Study,
    view: StudyView,
    census: Census,
    *,
    mine: Collection[str] = (),
    in_hand: Collection[int] = (),
    queue: bool = True,
) -> int:
    """Fail the running trials that nobody works on any more and, with ``queue``, queue their
    configs. Returns how many there were. Any number of workers may do this at the same time.

    Nobody's are those of dead workers; those under ``mine`` (this worker's names) whose id is not
    among ``in_hand`` (a reply was lost); and those that no worker has signed: at once in a
    database, where ours are signed from the first moment, elsewhere when a minute has passed.
    """
    running = [t for t in view.running if t._trial_id not in in_hand]
    others = {_worker(t) for t in running} - {"", *mine}
    dead = census.dead(others)
    dead |= set(mine)
    is_database = database_of(study) is not None

    def is_lost(trial: FrozenTrial) -> bool:
        if worker := _worker(trial):
            return worker in dead
        return is_database or census.is_forgotten(trial._trial_id)

    lost = [trial for trial in running if is_lost(trial)]
    for trial in lost:
        is_whole = queue and config_of(trial) is not None
        give_back(study, trial, {"source": "interrupted"} if is_whole else None)
    return len(lost)


def _begun(
    study: Study,
    space: SearchSpace,
    view: StudyView,
    params: Sequence[dict[str, Any]],
    *,
    worker: str,
    goal: int,
) -> list[Asked]:
    """Trials of those that are still to be had."""
    if database_of(study) is None:
        places = begin(study, distributions(space), params, worker)
        asked = _asked(zip(places, params, strict=True))
        return _kept(study, view, asked, goal, from_queue=False) if asked else []

    def standing() -> list[dict[str, Any]]:
        view.read()
        free = [each for each in params if config_from_keys(each) not in view.taken]
        return free[: _room(view, space, goal)]

    return _asked(begin_chosen(study, distributions(space), standing, worker))


def _queued(view: StudyView, space: SearchSpace) -> list[FrozenTrial]:
    return [trial for trial in view.waiting if asked_config(trial) in space]


def _room(view: StudyView, space: SearchSpace, goal: int) -> int:
    """For proposals: what was queued meanwhile has its place."""
    wanted = goal - len(_queued(view, space))
    return max(wanted - len(view.entries) - len(view.running), 0)


def _asked(places: Iterable[tuple[Place, Mapping[str, Any]]]) -> list[Asked]:
    return [Asked(place.trial_id, place.number, config_from_keys(p)) for place, p in places]


def _kept(
    study: Study, view: StudyView, asked: Sequence[Asked], goal: int, *, from_queue: bool
) -> list[Asked]:
    """Those that stand; the others are given up."""
    kept: list[Asked] = []
    given_up: list[Asked] = []
    own = {each.number for each in asked}
    view.read()
    if database_of(study) is None:
        _wait_for_half_made(view, max(own))
    measured = len(view.entries)
    in_work = [t.number for t in view.running if t.number not in own]
    for each in asked:
        # one from the queue has an old ticket: others cannot have counted it before it ran
        others = in_work if from_queue else [n for n in in_work if n < each.number]
        is_full = measured + len(others) + len(kept) >= goal
        is_double = view.holder(each.config) < each.number
        (given_up if is_full or is_double else kept).append(each)
    if given_up:
        abandon(study, *given_up)
    return kept


def _wait_for_half_made(view: StudyView, last: int) -> None:
    """Storages that are no database show a trial before its parameters."""
    until = time.monotonic() + _HALF_MADE_S
    while time.monotonic() < until:
        half = [t for t in view.running if t.number < last and config_of(t) is None]
        if not half:
            return
        time.sleep(POLL_S)
        view.read()


def _worker(trial: FrozenTrial) -> str:
    return str(trial.user_attrs.get(WORKER, ""))


def _imagined(number: int) -> FrozenTrial:
    """The trial that a sampler would be asked for, had it been created."""
    return FrozenTrial(
        number=number,
        state=TrialState.RUNNING,
        value=None,
        datetime_start=None,
        datetime_complete=None,
        params={},
        distributions={},
        user_attrs={},
        system_attrs={},
        intermediate_values={},
        trial_id=-1,
    )
