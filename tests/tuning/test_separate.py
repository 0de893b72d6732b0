"""``--kernel separate`` from settings to files, over a recorded landscape."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from gemm_times import read_gemm_times
from small_landscape import save_times  # type: ignore[import-not-found]

from autotune.engines import DEFAULT_TOKENS, ENGINES, check_file
from autotune.errors import UsageError
from autotune.report.terminal.run_display import PlainDisplay
from autotune.settings import ModelSettings, RunSettings, settings_from
from autotune.spec.config import Config, ConfigPair
from autotune.spec.problem import KernelMode
from autotune.studies.pairs import best_pairs
from autotune.studies.storage.open import open_storage
from autotune.studies.study_record import stored_studies
from autotune.tuning.comparison.bench import bench
from autotune.tuning.jobs import Origin
from autotune.tuning.run_report import RunReport
from autotune.tuning.session import run
from autotune.tuning.stored_results import stored_results

Make = Callable[..., RunSettings]


@pytest.fixture
def lopsided(tmp_path: Path, landscape: Path) -> Path:
    """Up wants wide tiles and down narrow ones."""
    path = tmp_path / "lopsided.npz"
    times = read_gemm_times(landscape)
    width = np.log2([config.block_size_n for config in times.configs]) - 5
    for us in times.gemm_us.values():
        us[:, 0] *= (1.5 - width / 4)[:, None]
        us[:, 1] *= (1 + width / 4)[:, None]
    return save_times(path, times)


@pytest.fixture
def separate(settings: Make, lopsided: Path) -> Make:
    def make(**changes: object) -> RunSettings:
        values = {
            "device": f"replay:{lopsided}",
            "kernel": KernelMode.SEPARATE,
            "trials": 20,
            "sampler": "random",
        }
        return settings(**{**values, **changes})

    return make


def _at(tokens: int, separate: Make) -> ModelSettings:
    return ModelSettings(shape=separate().model.shape, batch_sizes=(tokens,))


def _run(settings: RunSettings, database: str) -> RunReport:
    return run(settings, database, PlainDisplay())


def test_two_files_with_the_same_keys_and_one_for_vllm(separate: Make, database: str) -> None:
    report = _run(separate(), database)
    assert report.failed == {}
    names = [file.path.name for file in report.files]
    assert len(names) == 3
    up, down = (file.path for file in report.files if "sglang" in str(file.path))
    assert down.name == up.name.replace(".json", "_down.json")
    bodies = [json.loads(path.read_text()) for path in (up, down)]
    assert bodies[0].keys() == bodies[1].keys() == set(map(str, DEFAULT_TOKENS))
    for tokens in ("1", "64"):
        assert bodies[0][tokens]["BLOCK_SIZE_M"] == bodies[1][tokens]["BLOCK_SIZE_M"]
    for file in report.files:
        engine = ENGINES["sglang" if "sglang" in str(file.path) else "vllm"]
        assert check_file(file.path, engine).ok


def test_each_half_has_its_own_winner(separate: Make, database: str) -> None:
    results = {
        (result.engine.name, result.problem.tokens): result
        for result in _run(
            separate(sampler="tpe", trials=40, model=_at(64, separate)), database
        ).results
    }
    pair = results["sglang", 64].config
    assert isinstance(pair, ConfigPair)
    assert pair.up.block_size_n > pair.down.block_size_n
    assert isinstance(results["vllm", 64].config, Config)
    winner = results["sglang", 64].winner
    assert winner is not None
    assert not winner.is_incumbent


def test_the_best_halves_were_measured_together(separate: Make, database: str) -> None:
    _run(separate(), database)
    for study in stored_studies(open_storage(database, create=False)):
        if study.key.problem.kernel is KernelMode.FUSED:
            continue
        best = best_pairs(study.measured)[0]
        assert best in {entry.config for entry in study.measured}
        sources = [trial.user_attrs.get("source") for trial in study.trials]
        assert "best halves" in sources
        for entry in study.measured:
            sums = np.array(entry.up_us) + np.array(entry.down_us)
            assert np.allclose(sums, entry.samples_us, atol=0.01)
        trial = study.trials[best_number(study.measured)]
        assert {"up_us", "down_us", "samples_us"} <= set(trial.user_attrs)


def best_number(entries: list) -> int:  # type: ignore[type-arg]
    return min(entries, key=lambda entry: entry.geomean_us).trial_number


def test_a_second_run_measures_nothing_and_writes_the_same(separate: Make, database: str) -> None:
    first = _run(separate(), database)
    texts = [file.path.read_text() for file in first.files]
    second = _run(separate(), database)
    assert second.measured == 0
    assert [file.path.read_text() for file in second.files] == texts
    stored = stored_studies(open_storage(database, create=False))
    again = [result.config for study in stored for result in stored_results(study)]
    assert sorted(map(str, again)) == sorted(str(result.config) for result in second.results)


def test_fused_and_separate_studies_never_mix(separate: Make, database: str) -> None:
    _run(separate(engines=("sglang",)), database)
    _run(separate(engines=("sglang",), kernel=KernelMode.FUSED), database)
    studies = stored_studies(open_storage(database, create=False))
    assert len(studies) == 4
    assert sum("separate" in study.name for study in studies) == 2


def test_a_fused_run_after_a_separate_one_leaves_no_stale_down_file(
    separate: Make, database: str
) -> None:
    first = _run(separate(engines=("sglang",)), database)
    assert len(first.files) == 2
    second = _run(separate(engines=("sglang",), kernel=KernelMode.FUSED), database)
    assert [file.path for file in second.files] == [file.path for file in first.files]
    up, down = (file.path.read_text() for file in second.files)
    assert up == down


def test_what_an_earlier_run_wrote_is_not_the_users(separate: Make, database: str) -> None:
    first, second = (_run(separate(engines=("sglang",)), database) for _ in range(2))
    assert first.files[0].path.exists()
    stored = stored_studies(open_storage(database, create=False))
    looks = [first.results, second.results, [r for study in stored for r in stored_results(study)]]
    assert not any(result.is_kept for result in first.results)
    for results in looks:
        assert [(r.config, r.is_kept) for r in results] == [
            (r.config, r.is_kept) for r in first.results
        ]
        assert not any(i.origin is Origin.FILE for r in results for i in r.incumbents)


def test_bench_times_both_halves(separate: Make) -> None:
    _, rows = bench(separate(model=_at(64, separate)), [Config(32, 64, 64, 8, 4, 3)], [])
    assert str(rows[0].config).startswith("up 32x64x64 G8 w4 s3")
    measurement = rows[0].result.measurement
    assert measurement is not None
    assert len(measurement.up_us) == len(measurement.down_us) == 10


def test_bench_says_which_engine_has_two_configs(separate: Make) -> None:
    with pytest.raises(UsageError, match="--engine sglang"):
        bench(separate(engines=("vllm",)), [Config(32, 64, 64, 8, 4, 3)], [])


def test_settings_keep_the_kernel(separate: Make) -> None:
    settings = separate()
    assert settings_from(RunSettings, json.loads(json.dumps(settings.as_json()))) == settings


@pytest.mark.parametrize("first", [KernelMode.FUSED, KernelMode.SEPARATE])
def test_files_of_unlike_runs_keep_the_same_keys(
    separate: Make, database: str, first: KernelMode
) -> None:
    """Else an up and a down entry of unlike BLOCK_SIZE_M would meet: see SGLang's lookup."""
    second = KernelMode.SEPARATE if first is KernelMode.FUSED else KernelMode.FUSED
    sglang = {"engines": ("sglang",), "trials": 12}
    _run(separate(kernel=first, model=_at(1, separate), **sglang), database)
    report = _run(separate(kernel=second, model=_at(64, separate), **sglang), database)
    up, down = (file.path for file in report.files)
    bodies = [json.loads(path.read_text()) for path in (up, down)]
    assert bodies[0].keys() == bodies[1].keys() == set(map(str, DEFAULT_TOKENS))
    for path in (up, down):
        report_of_file = check_file(path, ENGINES["sglang"])
        assert report_of_file.ok
        assert "pair" not in {finding.key for finding in report_of_file.findings}
