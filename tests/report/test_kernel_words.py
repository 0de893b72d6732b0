"""Tables, notes and the page say whose kernel was measured, of a run as if on a GPU."""

from __future__ import annotations

from dataclasses import replace

import pytest
from finished_run import Finished  # type: ignore[import-not-found]
from rich.console import Console

from autotune.report.dashboard.notes import NotedStudy, note
from autotune.report.html.layer_section import layer_section
from autotune.report.layers import layers_of
from autotune.report.rows import result_row
from autotune.report.terminal.tables import results_table
from autotune.spec.device import DeviceKind
from autotune.studies.study_record import StoredStudy
from autotune.tuning.stored_results import stored_results

UNPROVEN = "vLLM: sglang 0.5.23 stands in, not proven for bf16"
OWN = "SGLang: its own kernel, sglang 0.5.23"


@pytest.fixture
def studies(finished: Finished) -> list[StoredStudy]:
    """SGLang's kernel was measured, for both engines."""
    return [
        replace(
            study,
            key=replace(
                study.key,
                device=replace(
                    study.key.device, kind=DeviceKind.CUDA, method="sglang 0.5.23: whole layer"
                ),
            ),
        )
        for study in finished.studies()
    ]


def test_rows_are_for_machines_and_the_table_for_people(studies: list[StoredStudy]) -> None:
    rows = [result_row(result, "m", {}) for result in stored_results(studies[0])]
    assert [(row.engine, row.kernel, row.kernel_is_proven) for row in rows] == [
        ("sglang", "sglang 0.5.23", True),
        ("vllm", "sglang 0.5.23", False),
    ]
    console = Console(width=200)
    with console.capture() as capture:
        console.print(results_table(rows))
    marked = [line for line in capture.get().splitlines() if "(unproven stand-in)" in line]
    assert [line.split()[0] for line in marked] == ["vllm"]


def test_a_replay_measures_no_kernel(finished: Finished) -> None:
    for result in stored_results(finished.studies()[0]):
        row = result_row(result, "m", {})
        assert (row.kernel, row.kernel_is_proven) == (None, None)


def test_a_note_says_so(studies: list[StoredStudy]) -> None:
    study = studies[0]
    results = stored_results(study)
    noted = NotedStudy(study.key, "m", "random", study.measured, 20, "", results)
    assert f"{OWN}.\n" in note(noted, [], {})
    assert UNPROVEN in note(noted, [], {})


def test_a_page_says_so(studies: list[StoredStudy]) -> None:
    [layer] = layers_of(studies)
    said = " ".join(layer_section(layer, ()).kernels)
    assert said.count(OWN) == said.count(UNPROVEN) == 1


def test_numbers_are_rounded_once(finished: Finished) -> None:
    """1.3746 is 1.37 in a table and 1.375 in ``--json``; of 1.375 a table would make 1.38."""
    result = stored_results(finished.studies()[0])[0]
    row = result_row(result, "m", {})
    assert result.winner is not None
    assert result.default_us is not None
    assert row.speedup == result.default_us / result.winner.geomean_us
    assert row.us == result.winner.geomean_us
    row = replace(row, us=1.24499, speedup=1.3746)
    found = row.as_json()
    assert (found["us"], found["speedup"]) == (1.24, 1.375)
    console = Console(width=200)
    with console.capture() as capture:
        console.print(results_table([row]))
    assert "1.37×" in capture.get()
