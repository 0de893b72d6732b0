"""How long ``status`` and ``best`` take on a storage of 10,000 trials, each from a fresh process.

Usage: python benchmarks/watching/ten_thousand.py [--trials 10000] [--storage STORAGE]
"""

from __future__ import annotations

import argparse
import datetime
import json
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from statistics import median

from optuna.distributions import CategoricalDistribution, distribution_to_json
from optuna.samplers import RandomSampler
from optuna.storages import BaseStorage, RDBStorage
from optuna.storages._rdb import models
from optuna.trial import FrozenTrial, TrialState, create_trial

from autotune.engines import DEFAULT_TOKENS
from autotune.settings import ModelSettings, RunSettings
from autotune.spec.device import Device, DeviceKind, Target
from autotune.spec.problem import Problem
from autotune.studies.key import StudyKey
from autotune.studies.storage.open import open_storage
from autotune.studies.study_record import open_study

_DEVICE = Device(DeviceKind.CUDA, "NVIDIA H200", Target("cuda", 90), 232448, "3.6.0")
_KNOBS = {
    "BLOCK_SIZE_M": (16, 32, 64, 128, 256),
    "BLOCK_SIZE_N": (32, 64, 128, 256),
    "BLOCK_SIZE_K": (64, 128, 256),
    "GROUP_SIZE_M": (1, 16, 32, 64),
    "num_warps": (4, 8),
    "num_stages": (2, 3, 4, 5),
}
_ROUNDS = 5


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trials", type=int, default=10_000)
    parser.add_argument("--storage", help="fill this one, unless it is full, and leave it")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        storage = args.storage or str(Path(folder) / "many.db")
        fill(storage, args.trials)
        print(f"{args.trials} trials in {len(DEFAULT_TOKENS)} studies, {_ROUNDS} runs each")
        for command in ("--version", "status", "best", "status --json", "best --json"):
            seconds = [timed(command.split(), storage) for _ in range(_ROUNDS)]
            print(f"{command:14} median {median(seconds):.2f} s, worst {max(seconds):.2f} s")


def timed(words: list[str], storage: str) -> float:
    """Seconds from start to exit of one command."""
    more = [] if words[0] == "--version" else ["--storage", storage]
    begin = time.perf_counter()
    command = [sys.executable, "-m", "autotune", *words, *more]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - begin


def fill(text: str, trials: int) -> None:
    """Studies of every batch size; into a database, trials are written straight into the tables."""
    storage = open_storage(text, create=True)
    if storage.get_all_studies():
        return
    sizes = [trials // len(DEFAULT_TOKENS)] * len(DEFAULT_TOKENS)
    sizes[0] += trials - sum(sizes)
    first = 1
    for tokens, size in zip(DEFAULT_TOKENS, sizes, strict=True):
        _add_study(storage, tokens, range(first, first + size))
        first += size


def _add_study(storage: BaseStorage, tokens: int, ids: range) -> None:
    settings = RunSettings(
        model=ModelSettings(model="Qwen/Qwen3-30B-A3B"), device="cuda", output_dir=Path("/none")
    )
    attrs = {
        "model": settings.model.model,
        "engines": ["sglang", "vllm"],
        "target_trials": len(ids),
        "settings": settings.as_json(),
    }
    key = StudyKey(Problem(128, 8, 2048, 768, tokens), _DEVICE, "benchmark")
    study = open_study(storage, key, RandomSampler(), attrs)
    if not isinstance(storage, RDBStorage):
        for trial in _trials(study._study_id, ids):
            storage.create_new_trial(study._study_id, template_trial=trial)
        return
    with storage.engine.begin() as connection:
        for model, rows in _rows(study._study_id, ids).items():
            connection.execute(model.__table__.insert(), rows)


def _rows(study_id: int, ids: range) -> dict[type, list[dict[str, object]]]:
    rng = random.Random(study_id)
    now = datetime.datetime(2026, 1, 1)  # Optuna has no zone either
    rows: dict[type, list[dict[str, object]]] = {
        model: []
        for model in (
            models.TrialModel,
            models.TrialValueModel,
            models.TrialParamModel,
            models.TrialUserAttributeModel,
        )
    }
    texts = {
        name: distribution_to_json(CategoricalDistribution(values))
        for name, values in _KNOBS.items()
    }
    for number, trial_id in enumerate(ids):
        us = rng.uniform(100, 300)
        rows[models.TrialModel].append(
            {
                "trial_id": trial_id,
                "number": number,
                "study_id": study_id,
                "state": TrialState.COMPLETE,
                "datetime_start": now,
                "datetime_complete": now + datetime.timedelta(seconds=1),
            }
        )
        rows[models.TrialValueModel].append(
            {
                "trial_id": trial_id,
                "objective": 0,
                "value": us,
                "value_type": models.TrialValueModel.TrialValueType.FINITE,
            }
        )
        for name, values in _KNOBS.items():
            rows[models.TrialParamModel].append(
                {
                    "trial_id": trial_id,
                    "param_name": name,
                    "param_value": rng.randrange(len(values)),
                    "distribution_json": texts[name],
                }
            )
        attrs = _attrs(us, rng)
        rows[models.TrialUserAttributeModel] += [
            {"trial_id": trial_id, "key": name, "value_json": json.dumps(value)}
            for name, value in attrs.items()
        ]
    return rows


def _trials(study_id: int, ids: range) -> Iterator[FrozenTrial]:
    rng = random.Random(study_id)
    for _ in ids:
        us = rng.uniform(100, 300)
        yield create_trial(
            value=us,
            params={name: rng.choice(values) for name, values in _KNOBS.items()},
            distributions={n: CategoricalDistribution(values) for n, values in _KNOBS.items()},
            user_attrs=_attrs(us, rng),
        )


def _attrs(us: float, rng: random.Random) -> dict[str, object]:
    return {
        "outcome": "ok",
        "samples_us": [round(us * rng.uniform(0.99, 1.01), 3) for _ in range(10)],
        "registers": 128,
        "spill_bytes": 0,
        "shared_bytes": 65536,
        "compile_s": 0.5,
        "speedup": 1.0,
    }


if __name__ == "__main__":
    main()
