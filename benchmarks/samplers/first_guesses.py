"""What a sampler measures first where nothing is known: spread configs, or the rough time's best?

    python benchmarks/samplers/first_guesses.py

On every recorded landscape, optimum over the best of: both engines' defaults; the four trials after
them that are spread over the space (``SurrogateSampler``, which knows knobs alone; mean of 20
seeds); the four after them that the rough time likes best.
"""

from __future__ import annotations

import sys

from race import HERE, prepare  # sets one BLAS thread: before NumPy

# isort: split
import numpy as np
import optuna
from recordings import DEVICE, SGLANGS, Recording, recordings

from autotune.spec.arrays import Rows
from autotune.studies.search.surrogate.candidates import Candidates, candidates_of
from autotune.studies.search.surrogate.rough_time import rough_clocks
from autotune.studies.search.surrogate.sampler import SurrogateSampler

FIRST = 4
SEEDS = 20


def main() -> int:
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    print("| landscape | defaults | four spread | the rough time's four |")
    print("|---" * 4 + "|")
    for folder in (SGLANGS, HERE.parent / "landscapes"):
        table = {name: _ratios(recording) for name, recording in recordings(folder).items()}
        for name, ratios in (*table.items(), ("mean", np.mean(list(table.values()), axis=0))):
            print(f"| {name} | {' | '.join(f'{ratio:.3f}' for ratio in ratios)} |")
    return 0


def _ratios(recording: Recording) -> tuple[float, ...]:
    candidates = candidates_of(recording.rows)
    defaults = [candidates.index(row) for row in recording.defaults]
    spread = [_best(recording, _spread(recording, candidates, seed)) for seed in range(SEEDS)]
    return (
        _best(recording, defaults),
        float(np.mean(spread)),
        _best(recording, [row for row in _rough(recording) if row not in defaults][:FIRST]),
    )


def _best(recording: Recording, rows: list[int | None]) -> float:
    return recording.optimum_us / float(min(recording.us[row] for row in rows))


def _spread(recording: Recording, candidates: Candidates, seed: int) -> list[int | None]:
    study = optuna.create_study(sampler=SurrogateSampler(candidates, seed))
    prepare(study, recording)
    count = len(recording.defaults) + FIRST
    asked = [study.ask(dict(candidates.distributions)) for _ in range(count)]
    return [candidates.index(trial.params) for trial in asked[-FIRST:]]


def _rough(recording: Recording) -> Rows:
    assert recording.problem is not None
    return np.argsort(rough_clocks(recording.problem, DEVICE, recording.configs), kind="stable")


if __name__ == "__main__":
    sys.exit(main())
