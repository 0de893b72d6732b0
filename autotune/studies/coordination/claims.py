"""Taking trials so that no two workers measure the same, on any storage.

A worker proposes configs, and its storage's transactions create those that stand when the study is
read once more: nobody before them has the same config, and there is room for them in the study's
goal. In a database that is one transaction, in which nobody else creates a trial. In a journal,
and for queued trials, it is Lamport's bakery, with the trial's number as the ticket
(``storage.journal``).
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from functools import partial
from typing import Any

from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState, create_trial

from autotune.studies.coordination.leases import Census
from autotune.studies.coordination.study_view import StudyView
from autotune.studies.search.batch_sampler import BatchSampler
from autotune.studies.space import SearchSpace
from autotune.studies.storage.protocol import WORKER, Asked, Ticket
from autotune.studies.storage.transactions import transactions_of, trial_id_of
from autotune.studies.trial_record import SOURCE, asked_config, config_of, distributions

_TRIES = 3
"""New proposals where others took all of them meanwhile."""


def claim(
    study: Study, space: SearchSpace, view: StudyView, worker: str, *, count: int, goal: int
) -> list[Asked]:
    """Return at most ``count`` trials, created for this worker and nobody else's: queued ones
    first, then the sampler's proposals. Fewer, or none, if others were faster: read and try again.

    ``goal`` is how many measurements the study shall have; the view was read just before.
    """
    transactions, knobs = transactions_of(study), distributions(space)
    if queued := _queued(view, space)[:count]:
        stand = partial(_stand, view, goal, None)
        return transactions.take(study, queued, knobs, worker, stand)
    stand = partial(_stand, view, goal, space)
    for _ in range(_TRIES):
        params = proposals(study, space, count)
        asked = transactions.begin(study, knobs, params, worker, stand)
        view.hold(asked)
        room = goal - len(_queued(view, space)) - len(view.measured) - len(view.running)
        if asked or room <= 0:
            return asked
    return []


def proposals(study: Study, space: SearchSpace, count: int) -> list[dict[str, Any]]:
    """Return parameters that the sampler would ask for next, none of them created: several if it
    can propose several at once, else one."""
    sampler = study.sampler
    if isinstance(sampler, BatchSampler):
        return [dict(params) for params in sampler.propose(study, count)]
    trial = create_trial(state=TrialState.RUNNING)  # as if it had been created
    trial.number = len(study.get_trials(deepcopy=False))
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
    configs. Return how many there were. Any number of workers may do this at the same time.

    Nobody works on the trials of dead workers; on those under ``mine`` (this worker's names) whose
    id is not among ``in_hand`` (a reply was lost); and on those that no worker has signed: at once
    where the storage signs them from the first moment, else when a minute has passed.
    """
    transactions = transactions_of(study)
    running = [t for t in view.running if trial_id_of(t) not in in_hand]
    others = {_worker(t) for t in running} - {"", *mine}
    dead = census.dead(others)
    dead |= set(mine)

    def is_lost(trial: FrozenTrial) -> bool:
        if worker := _worker(trial):
            return worker in dead
        return transactions.signs_at_once or census.is_forgotten(trial_id_of(trial))

    lost = [trial for trial in running if is_lost(trial)]
    for trial in lost:
        is_whole = queue and config_of(trial) is not None
        transactions.give_back(study, trial, {SOURCE: "interrupted"} if is_whole else None)
    return len(lost)


def _queued(view: StudyView, space: SearchSpace) -> list[FrozenTrial]:
    return [trial for trial in view.waiting if asked_config(trial) in space]


def _stand(
    view: StudyView, goal: int, space: SearchSpace | None, tickets: Sequence[Ticket]
) -> list[bool]:
    """Decide which trials have room in the goal, and a config that nobody before them has.

    Before proposals come trials in work, and queued ones of ``space``, with a lower number. Before
    queued ones (``space`` is None) comes every trial in work: others cannot have counted the old
    number of a queued one before it ran.
    """
    view.read()
    own = {number for _, number in tickets}
    open_trials = [*view.running, *([] if space is None else _queued(view, space))]
    others = [trial.number for trial in open_trials if trial.number not in own]
    room = goal - len(view.measured)
    stands: list[bool] = []
    for config, number in tickets:
        before = sum(space is None or other < number for other in others) + sum(stands)
        stands.append(before < room and view.holder(config) >= number)
    return stands


def _worker(trial: FrozenTrial) -> str:
    return str(trial.user_attrs.get(WORKER, ""))
