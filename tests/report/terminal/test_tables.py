"""Tables on a terminal of 80 columns: a line each, and nothing cut."""

from __future__ import annotations

from dataclasses import replace

from finished_run import Finished  # type: ignore[import-not-found]
from rich.console import Console, RenderableType

from autotune.report.rows import study_row
from autotune.report.terminal.tables import rows_table, status_tables
from autotune.studies.storage.open import reading
from autotune.studies.storage.summaries import study_summaries


def _lines(shown: RenderableType) -> list[str]:
    console = Console(width=80, color_system=None)
    with console.capture() as capture:
        console.print(shown)
    return capture.get().splitlines()


def test_a_study_takes_one_line_under_its_layer(finished: Finished) -> None:
    with reading(finished.storage) as source:
        rows = [study_row(study) for study in study_summaries(source)]
    layer, heading, *studies = _lines(status_tables(rows[::-1]))
    shape = "E=8,topk=2,hidden=512,intermediate=256"
    assert layer.startswith(f"{shape} bf16, small, replayed, Triton ")
    assert heading.split() == ["batch", "size", "trials", "lowest", "µs", "state", "outcomes"]
    assert [line.split()[:2] for line in studies] == [["1", "20/20"], ["64", "20/20"]]


def test_why_a_study_ended_is_said_and_the_figures_of_convergence_are_not(
    finished: Finished,
) -> None:
    with reading(finished.storage) as source:
        row = study_row(study_summaries(source)[0])
    ended = ["converged: 0.20% expected of the next trial", "40 failures in a row; the last: oom"]
    lines = _lines(status_tables([replace(row, ended=words, outcomes={}) for words in ended]))
    assert "0.20%" not in "".join(lines)
    assert "the last: oom" in "".join(lines)


def test_headings_and_numbers_are_whole_and_empty_columns_left_out() -> None:
    row = {
        "batch_size": 4096,
        "source": "sglang default",
        "config": "64x128x128 G64 w8 s4",
        "µs": 1379.25,
        "registers": 255,
        "spill_bytes": 0,
        "shared_bytes": 196608,
        "reason": None,
    }
    whole = _lines(rows_table([row, row]))
    folded = _lines(rows_table([row | {"config": "128x256x128 G64 w8 s4, down 64x64x64"}]))
    for lines in (whole, folded):
        text = " ".join(" ".join(lines).split())
        assert all(word in text for word in ("registers", "1379.25", "196608", "G64"))
        assert all(word in text for word in ("batch", "size", "spill", "shared", "bytes"))
        assert "…" not in text
        assert "reason" not in text
    assert len(whole) == 4
    assert whole[-1].split()[0] == "4096"


def test_a_long_text_is_folded() -> None:
    lines = _lines(rows_table([{"check": "gpu", "found": "word " * 30}]))
    assert lines[1].startswith(" gpu")
    assert len(lines) > 2
