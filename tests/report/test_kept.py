"""What is kept is marked by one word, and counted alike, wherever results are shown."""

from __future__ import annotations

from dataclasses import replace

from finished_run import Finished  # type: ignore[import-not-found]
from rich.console import Console

from autotune.report.dashboard.notes import NotedStudy, note
from autotune.report.html.layer_section import layer_section
from autotune.report.kept import kept_words
from autotune.report.layers import layers_of
from autotune.report.rows import result_row
from autotune.report.terminal.tables import results_table
from autotune.tuning.stored_results import stored_results


def test_one_word_and_one_count_in_table_note_and_page(finished: Finished) -> None:
    first, second = finished.studies()
    [sglang, _] = stored_results(first)
    defaults = [entry for entry in first.measured if entry.config == sglang.default]
    studies = [replace(first, measured=defaults), second]
    results = {study.name: stored_results(study) for study in studies}
    rows = [result_row(result, "m", {}) for found in results.values() for result in found]
    count = sum(row.kept for row in rows)
    assert 0 < count < len(rows)
    console = Console(width=200)
    with console.capture() as capture:
        console.print(results_table(rows))
    assert capture.get().count("(kept)") == count
    notes = [
        note(NotedStudy(s.key, "m", "random", s.measured, 20, "", results[s.name]), [], {})
        for s in studies
    ]
    assert sum(text.count("(kept)") for text in notes) == count
    [layer] = layers_of(studies)
    section = layer_section(layer, ())
    assert str(section.configs.rows).count("(kept)") == count
    assert kept_words(row.kept for row in rows) == section.kept


def test_the_line_below_a_table() -> None:
    assert kept_words([True, False, True]).startswith("2 of 3 kept: ")
    assert kept_words([False]) == kept_words([]) == kept_words([None]) == ""
    assert kept_words([True, None, False]).startswith("1 of 2 kept: ")


def test_what_was_not_measured_is_not_kept(finished: Finished) -> None:
    [study, *_] = finished.studies()
    rows = [result_row(r, "m", {}) for r in stored_results(replace(study, measured=[]))]
    assert [(row.kept, row.us, row.measurements) for row in rows] == [(None, None, 0)] * 2
    console = Console(width=200)
    with console.capture() as capture:
        console.print(results_table(rows))
    assert capture.get().count("(not measured)") == 2
