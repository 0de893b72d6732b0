"""Claims and tells until a study is full: what several processes do at the same time.

python claiming.py STORAGE WORKER GOAL SIZE
"""

from __future__ import annotations

import sys
import time
from typing import Any

import optuna
from optuna.samplers import RandomSampler
from optuna.trial import TrialState

from autotune.spec.config import Config
from autotune.studies.coordination.claims import claim
from autotune.studies.coordination.study_view import StudyView
from autotune.studies.search.unseen_sampler import UnseenSampler
from autotune.studies.space import Space
from autotune.studies.storage.open import open_storage
from autotune.studies.storage.protocol import TrialEnd
from autotune.studies.storage.transactions import transactions_of


def space_of(size: int) -> Space:
    """So few configs that workers collide."""
    return Space(Config(16, 32, 64, 1 + g, 4, 2) for g in range(size))


def main(name: str, worker: str, goal: int, size: int) -> None:
    space = space_of(size)
    seed = 0  # the same for all: they want the same configs
    sampler = UnseenSampler(space, RandomSampler(seed=seed), seed)
    study = optuna.load_study(
        study_name="study", storage=open_storage(name, create=False), sampler=sampler
    )
    view = StudyView(study)
    kept: list[Any] = []
    while True:
        view.read()
        room = goal - len(view.measured) - len(view.running)
        if len(view.measured) >= goal:
            break
        if room <= 0 and not kept:
            time.sleep(0.01)
            continue
        if room > 0:
            kept += claim(study, space, view, worker, count=2, goal=goal)
        if kept:
            asked = kept.pop(0)
            attrs = {"outcome": "ok", "samples_us": [1.0]}
            end = TrialEnd(asked.trial_id, TrialState.COMPLETE, 1.0, attrs)
            transactions_of(study).finish([end])


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))
