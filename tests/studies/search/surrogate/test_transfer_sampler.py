"""Physics from the study key, hints from siblings, and the bar on recorded landscapes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pytest
from gemm_times import GemmTimes, read_gemm_times
from trials import ask, tell  # type: ignore[import-not-found]

from autotune.spec.config import Config
from autotune.spec.device import Device
from autotune.spec.measurement import Measurement
from autotune.spec.problem import Problem
from autotune.studies.key import StudyKey
from autotune.studies.outcome import Outcome, TrialResult
from autotune.studies.search.history import Sibling, comparable, neighbours, siblings
from autotune.studies.search.surrogate import model
from autotune.studies.search.surrogate.gp import Inputs, fit_hyperparameters
from autotune.studies.search.surrogate.rough_time import rough_clocks
from autotune.studies.search.surrogate.sampler import TransferSampler
from autotune.studies.space import Space, moe_space
from autotune.studies.storage.open import open_storage
from autotune.studies.study_record import open_study, stored_studies

RECORDED = Path(__file__).parents[4] / "benchmarks/landscapes/sglang/qwen3-30b-a3b_tp1_bf16.npz"


def made_up_us(problem: Problem, config: Config) -> float:
    """Best where BLOCK_SIZE_M is twice the rows of an expert; other knobs matter a little."""
    rows = problem.tokens * problem.top_k / problem.experts
    wanted = min(max(math.log2(2 * rows), 4), 8)
    apart = abs(math.log2(config.block_size_m) - wanted)
    apart += abs(math.log2(config.block_size_n) - 7) / 2 + abs(config.num_stages - 4) / 4
    apart += abs(math.log2(config.block_size_k) - 6) / 3 + abs(config.group_size_m - 16) / 100
    return problem.tokens * math.exp(0.4 * apart)


def sibling(problem: Problem, space: Space, count: int = 60) -> Sibling:
    rows = np.random.default_rng(problem.tokens).choice(len(space), count, replace=False)
    configs = tuple(space.configs[row] for row in rows)
    return Sibling(problem, configs, tuple(made_up_us(problem, config) for config in configs))


def best_ratio(key: StudyKey, space: Space, sampler: TransferSampler, trials: int) -> float:
    study = optuna.create_study(sampler=sampler)
    study.set_user_attr("key", key.as_json())
    for _ in range(trials):
        asked = ask(study, space)
        us = made_up_us(key.problem, asked.config)
        tell(study, asked, TrialResult(Outcome.OK, Measurement((us,), "test")), None)
    return min(made_up_us(key.problem, config) for config in space.configs) / study.best_value


def test_siblings_teach_the_first_proposals(key: StudyKey, space: Space) -> None:
    known = [sibling(replace(key.problem, tokens=t), space) for t in (16, 32, 256)]
    cold = best_ratio(key, space, TransferSampler(space, 0), 6)
    warm = best_ratio(key, space, TransferSampler(space, 0, history=lambda _: known), 6)
    assert warm > max(cold, 0.85)


def test_a_wrong_sibling_does_not_stand_in_the_way(key: StudyKey, space: Space) -> None:
    right = sibling(replace(key.problem, tokens=128), space)
    upside_down = replace(right, geomean_us=tuple(1e4 / us for us in right.geomean_us))
    sampler = TransferSampler(space, 0, history=lambda _: [upside_down])
    assert best_ratio(key, space, sampler, 40) > 0.95


def test_siblings_are_learnt_from_again_once_they_have_grown(key: StudyKey, space: Space) -> None:
    known = [sibling(replace(key.problem, tokens=128), space, 10)]
    sampler = TransferSampler(space, 0, history=lambda _: known)
    study = optuna.create_study(sampler=sampler)
    study.set_user_attr("key", key.as_json())
    models = []
    for number in range(18):
        asked = ask(study, space)
        us = made_up_us(key.problem, asked.config)
        tell(study, asked, TrialResult(Outcome.OK, Measurement((us,), "test")), None)
        if number == 12:
            known[0] = sibling(replace(key.problem, tokens=128), space, 40)
        models.append(sampler._surrogate)
    assert len(set(map(id, models[:16]))) == 1  # looked at again after 8, and found as before
    assert models[-1] is not models[0]


def test_a_static_guess_orders_the_first_trials(key: StudyKey, space: Space) -> None:
    guess = [made_up_us(key.problem, config) for config in space.configs]
    assert best_ratio(key, space, TransferSampler(space, 0, prior_us=guess), 1) == 1.0


def test_where_no_guess_is_given_a_rough_time_orders_the_first_trials(
    key: StudyKey, space: Space
) -> None:
    study = optuna.create_study(sampler=TransferSampler(space, 0))
    study.set_user_attr("key", key.as_json())
    rough = rough_clocks(key.problem, key.device, space.configs)
    assert ask(study, space).config == space.configs[int(np.argmin(rough))]


def test_siblings_come_from_the_storage(
    database: str, key: StudyKey, space: Space, problem: Problem
) -> None:
    storage = open_storage(database, create=True)
    near, far = replace(problem, tokens=128), replace(problem, tokens=1024)
    foreign = replace(key.device, triton_version="3.5.0")
    keys = [replace(key, problem=far), replace(key, problem=near), key]
    keys.append(replace(key, problem=near, device=foreign))
    for other in keys:
        study = open_study(storage, other, TransferSampler(space, 0), {})
        for _ in range(14):
            asked = ask(study, space)
            bad = asked.config.num_warps == 8 and asked.config.num_stages == 5
            measurement = Measurement((made_up_us(other.problem, asked.config),), "test")
            outcome = Outcome.CRASHED if bad else Outcome.OK
            tell(study, asked, TrialResult(outcome, None if bad else measurement), None)
    found = siblings(key, stored_studies(storage))
    assert [s.problem for s in found] == [near, far]
    assert found[0].winner in space
    assert [s.problem for s in neighbours(key, stored_studies(storage))] == [near, far]
    wider = replace(key, problem=replace(problem, intermediate=2 * problem.intermediate))
    assert neighbours(wider, stored_studies(storage)) == []
    assert not comparable(foreign, key.device)


def test_hyperparameters_are_fitted_anew_only_as_knowledge_grows(
    key: StudyKey, space: Space, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What keeps proposals quick. How quick is for benchmarks/samplers/proposal_time.py."""
    measured: list[int] = []

    def counted(at: Inputs, *rest: Any) -> Any:
        measured.append(len(at.smooth))
        return fit_hyperparameters(at, *rest)

    monkeypatch.setattr(model, "fit_hyperparameters", counted)
    best_ratio(key, space, TransferSampler(space, 0), 30)
    trusting, sceptic = measured[::2], measured[1::2]
    assert trusting == sceptic
    growth = np.array(trusting[1:]) / np.array(trusting[:-1])
    assert len(trusting) < 20
    assert (growth >= 1.1).all()


@pytest.fixture(scope="module")
def recorded() -> GemmTimes:
    return read_gemm_times(RECORDED)


@pytest.mark.parametrize(("tokens", "least"), [(64, 0.97), (1024, 0.97)])
def test_the_bar_on_a_recorded_landscape(
    recorded: GemmTimes, h200: Device, problem: Problem, tokens: int, least: float
) -> None:
    """Cold, without warm starts, 30 trials, mean of three seeds."""
    problem = replace(problem, tokens=tokens)
    us = dict(zip(recorded.configs, recorded.median_us(tokens).tolist(), strict=True))
    space = Space(config for config in moe_space(problem, h200).configs if us.get(config, 0) > 0)
    key = StudyKey(problem, h200, space.fingerprint)
    ratios = [recorded.best_us(tokens) / _best(us, key, space, seed) for seed in range(3)]
    assert float(np.mean(ratios)) >= least


def _best(us: dict[Config, float], key: StudyKey, space: Space, seed: int) -> float:
    study = optuna.create_study(sampler=TransferSampler(space, seed))
    study.set_user_attr("key", key.as_json())
    seen: Sequence[float] = ()
    for _ in range(30):
        asked = ask(study, space)
        seen = [*seen, us[asked.config]]
        tell(study, asked, TrialResult(Outcome.OK, Measurement((seen[-1],), "replay")), None)
    return min(seen)
