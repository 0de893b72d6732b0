"""What speed-ups are over is said wherever results are shown."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from finished_run import Finished  # type: ignore[import-not-found]
from rich.console import Console

from autotune.api.stored import best_view, export
from autotune.engines import ENGINES
from autotune.engines.base import Engine
from autotune.report.baseline import baseline_lines, launch_lines
from autotune.report.html.page import write_report
from autotune.report.rows import result_row, result_rows
from autotune.tuning.jobs import Incumbent, Origin
from autotune.tuning.stored_results import stored_results

_UNSEEN = (
    "default of SGLang and vLLM: what the engine's own rule says; files that it ships may be "
    "faster and cannot be seen where it is not installed"
)


@pytest.fixture
def absent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Engine, "package_folder", lambda engine: None)


def _installed(monkeypatch: pytest.MonkeyPatch, *names: str) -> None:
    monkeypatch.setattr(
        Engine,
        "installed_config_folder",
        lambda engine: Path("/configs") if engine.name in names else None,
    )


@pytest.mark.usefixtures("absent")
def test_it_is_said_once_below_the_table_on_the_page_and_with_exported_files(
    finished: Finished, tmp_path: Path
) -> None:
    studies = finished.studies()
    rows = result_rows([(study, result) for study in studies for result in stored_results(study)])
    console = Console(width=200)
    with console.capture() as capture:
        console.print(best_view([("layer", row) for row in rows]))
    assert capture.get().count(_UNSEEN) == 1
    page = write_report(studies, tmp_path)[0].read_text(encoding="utf-8")
    assert page.count(_UNSEEN.replace("'", "&#39;")) == 1
    assert export(finished.storage, output_dir=tmp_path).notes.count(_UNSEEN) == 1


def test_of_installed_engines_shipped_files_count(monkeypatch: pytest.MonkeyPatch) -> None:
    _installed(monkeypatch, "vllm")
    sglang, vllm = baseline_lines(["vllm", "sglang", "vllm"])
    assert sglang == _UNSEEN.replace(" and vLLM", "")
    assert vllm == (
        "default of vLLM: what the engine's own rule says; files that it ships are "
        "compared with too"
    )
    assert baseline_lines([]) == []


def test_a_users_folder_is_said_and_the_runs_own_is_none(tmp_path: Path) -> None:
    vllm = ENGINES["vllm"]
    environment = {vllm.env_variable: "/mine"}
    said = "default of vLLM: what it launches with VLLM_TUNED_CONFIG_FOLDER=/mine"
    assert [*launch_lines([vllm, vllm, ENGINES["sglang"]], tmp_path, environment)] == [said]
    for own in (str(tmp_path / "x" / ".." / "vllm"), ""):
        assert [*launch_lines([vllm], tmp_path, {vllm.env_variable: own})] == []


def test_rows_tell_where_the_default_comes_from(finished: Finished) -> None:
    result = stored_results(finished.studies()[0])[0]
    assert result_row(result, "m", {}).default_from == "rule"
    own = Incumbent(result.engine.name, Origin.OWN, result.config)
    asked = replace(result, incumbents=(*result.incumbents, own))
    assert (asked.default, result_row(asked, "m", {}).default_from) == (own.config, "launch")
    assert result_row(replace(result, incumbents=()), "m", {}).default_from is None
