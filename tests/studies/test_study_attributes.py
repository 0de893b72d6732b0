"""What a study's attributes say, as this version and the one before wrote them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from optuna.study import Study

from autotune.spec.config import Config
from autotune.studies.key import StudyKey
from autotune.studies.lifecycle import EndReason, StudyEnd
from autotune.studies.search.samplers import SAMPLERS
from autotune.studies.selection.finalists import Finalist
from autotune.studies.selection.select import Robust
from autotune.studies.space import Space
from autotune.studies.storage.open import open_storage
from autotune.studies.study_attributes import (
    LAYOUT,
    SearchTerms,
    StudyAttributes,
    attributes_of,
    run_attributes,
    write_best,
    write_crossings,
    write_end,
    write_finalists,
    write_machine,
    write_search,
)
from autotune.studies.study_record import open_study, stored_studies

CONFIG = Config(16, 64, 64, 1, 4, 3)
FINALISTS = [Finalist(CONFIG, (1.0, 2.0, 1.5, 2.5), 2)]
CROSSING = {"tuned": "uniform", "measured": "zipf:1", "us": 2.0}
BEFORE: dict[str, Any] = {
    "model": "m",
    "engines": ["sglang", "vllm"],
    "target_trials": 60,
    "settings": {"sampler": "surrogate", "robust": "worst", "trials": 60},
    "search": {"sampler": "surrogate", "trials": 60, "stop_gain": 0.003},
    "finished": "converged: 0.21% expected of the next trial",
    "finalists": {
        "measured": 31,
        "robust": "mean",
        "rows": [
            {"config": CONFIG.as_keys(), "samples_us": [1.0, 2.0, 1.5, 2.5], "routings": 2},
        ],
    },
    "across": [CROSSING],
    "machine": {"Driver": "580"},
    "M": 64,
    "layout": 1,
}
"""The attributes of a study as the version before wrote them; its key is ``conftest.key``."""


@pytest.fixture
def study(database: str, key: StudyKey, space: Space) -> Study:
    return open_study(open_storage(database, create=True), key, SAMPLERS["random"](space, 0), {})


def test_attributes_of_the_version_before_are_read(key: StudyKey) -> None:
    attrs = StudyAttributes(BEFORE | {"key": key.as_json()})
    assert attrs.is_ours
    assert (attrs.key, attrs.layout, attrs.model, attrs.tokens) == (key, 1, "m", 64)
    assert (attrs.engines, attrs.target) == (("sglang", "vllm"), 60)
    assert attrs.end == StudyEnd(EndReason.CONVERGED, "0.21% expected of the next trial")
    assert attrs.search == SearchTerms("surrogate", 60, 0.003)
    assert attrs.robust is Robust.WORST
    assert attrs.finalists(31, Robust.MEAN) == FINALISTS
    assert attrs.finalists(32, Robust.MEAN) == []  # trials have come since
    assert attrs.finalists(31, Robust.WORST) == []
    assert attrs.crossings == [CROSSING]
    assert attrs.machine == {"Driver": "580"}


def test_what_a_study_does_not_say() -> None:
    attrs = StudyAttributes({})
    assert not attrs.is_ours
    assert (attrs.end, attrs.search, attrs.target) == (None, None, 0)
    assert attrs.robust is Robust.MEAN
    assert attrs.finalists(0, Robust.MEAN) == []
    assert not attrs.crossings
    assert not attrs.machine


def test_attributes_are_written_as_the_version_before_wrote_them(study: Study) -> None:
    end = StudyEnd(EndReason.CONVERGED, "0.21% expected of the next trial")
    settings = BEFORE["settings"]
    for name, value in run_attributes("m", ("sglang", "vllm"), settings, 60).items():
        study.set_user_attr(name, value)
    write_search(study, SearchTerms("surrogate", 60, 0.003))
    write_end(study, end)
    write_finalists(study, FINALISTS, 31, Robust.MEAN)
    write_crossings(study, [CROSSING])
    write_machine(study, {"Driver": "580"})
    written = study.user_attrs
    assert {name: written[name] for name in BEFORE if name != "M"} == {
        name: value for name, value in BEFORE.items() if name != "M"
    }
    write_end(study, None)
    assert attributes_of(study).end is None
    assert study.user_attrs["finished"] == ""


@pytest.mark.parametrize("own", [CONFIG, None])
def test_a_run_that_does_not_know_the_engines_own_config_forgets_it(
    study: Study, own: Config | None
) -> None:
    for known in (replace(CONFIG, num_warps=8), own):
        for name, value in run_attributes("m", (), {}, 60, known).items():
            study.set_user_attr(name, value)
    assert attributes_of(study).own_config == own


def test_people_find_the_best_time_and_its_speedup(study: Study) -> None:
    write_best(study, 10.004, None)
    assert study.user_attrs["best_us"] == 10.0
    assert "speedup" not in study.user_attrs
    write_best(study, 10.0, 25.0)
    assert study.user_attrs["default_us"] == 25.0
    assert study.user_attrs["speedup"] == 2.5


@pytest.mark.parametrize(("target", "is_finished"), [(0, True), (1, False)])
def test_a_study_is_finished_with_its_measurements_or_before(
    study: Study, database: str, target: int, is_finished: bool
) -> None:
    for name, value in run_attributes("m", (), {}, target).items():
        study.set_user_attr(name, value)
    [stored] = stored_studies(open_storage(database, create=False))
    assert stored.is_finished is is_finished
    write_end(study, StudyEnd(EndReason.EXHAUSTED))
    [stored] = stored_studies(open_storage(database, create=False))
    assert stored.is_finished


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("layout", LAYOUT + 1),
        ("layout", "grid"),
        ("layout", True),
        ("key", {}),
        ("key", None),
        ("model", 7),
        ("models", {"some/model": 1}),
        ("M", "64"),
        ("engines", "sglang"),
        ("engines", [1]),
        ("own_config", [1]),
        ("users_files", [1]),
        ("users_files", {"vllm": {"BLOCK_SIZE_M": "x"}}),
        ("own_config", {"BLOCK_SIZE_M": "x"}),
        ("settings", []),
        ("settings", {"robust": "none"}),
        ("target_trials", -1),
        ("target_trials", float("nan")),
        ("search", {"a": 1}),
        ("finished", 3),
        ("finalists", {"measured": 1}),
        ("finalists", {"measured": 1, "rows": [{"config": CONFIG.as_keys(), "samples_us": [-1]}]}),
        ("across", [1]),
        ("machine", {"Driver": 580}),
    ],
)
def test_an_attribute_that_is_not_as_we_write_it_is_a_fault(
    key: StudyKey, name: str, value: object
) -> None:
    sound = BEFORE | {"key": key.as_json()}
    assert StudyAttributes(sound).fault is None
    assert StudyAttributes(sound | {name: value}).fault is not None
