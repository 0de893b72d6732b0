from __future__ import annotations

import re
from html import unescape
from pathlib import Path

import pytest
from finished_run import Finished  # type: ignore[import-not-found]

from autotune.backends.hardware import find_spec
from autotune.report.html import result_charts, roofline
from autotune.report.html.layer_section import _loss_words, _wall_s, layer_section
from autotune.report.html.nearest_keys import KeyLoss, nearest_losses
from autotune.report.html.page import write_report
from autotune.report.html.search_charts import spent_on
from autotune.report.layers import layers_of


def test_the_page_is_whole_and_asks_for_nothing(finished: Finished, tmp_path: Path) -> None:
    page_file, *pictures = write_report(finished.studies(), tmp_path, finished.studies())
    page = page_file.read_text(encoding="utf-8")
    assert not re.search(r"""(src|href|url)\s*[=(]\s*["']?(?!data:)[a-z]*:?//""", page)
    assert "<script" not in page
    slugs = re.findall(r'<figure id="([a-z]+)"', page)
    assert {"latency", "speedup", "convergence", "outcomes", "time", "slices"} <= set(slugs)
    assert {"importance", "compare"} <= set(slugs)
    assert {path.stem.rsplit("-", 1)[-1] for path in pictures} == set(slugs)
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in pictures)
    for study in finished.studies():
        best = min((e for e in study.measured if e.complete), key=lambda e: e.geomean_us)
        assert str(best.config) in page
    assert str(finished.settings.output_dir) not in page
    [layer] = layers_of(finished.studies())
    section = layer_section(layer, ())
    said = [*section.kernels, section.kept, *(word for tile in section.tiles for word in tile)]
    for text in filter(None, said):
        assert text in unescape(page)


def test_markers_say_their_batch_size_and_time_without_a_script(
    finished: Finished, tmp_path: Path
) -> None:
    page = write_report(finished.studies(), tmp_path)[0].read_text(encoding="utf-8")
    [layer] = layers_of(finished.studies())
    for size in layer.sizes:
        assert f"<title>tuned, batch size {size.tokens}: {size.best_us:.1f} µs</title>" in page
    tips = page.count("<title>") - 1  # the page's own
    lines = 1 + len(layer.engines)
    assert tips == lines * len(layer.sizes)
    assert not re.search(r'<g id="', page)


def test_a_known_gpu_has_its_roofline(finished: Finished, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(roofline, "known_spec", lambda name: find_spec("H200"))
    [layer] = layers_of(finished.studies())
    assert "roofline" in [picture.slug for picture in result_charts.result_charts(layer)]


def test_markup_in_what_a_storage_says_stays_text(finished: Finished, tmp_path: Path) -> None:
    studies = finished.studies()
    for study in studies:
        study.attrs.values["models"] = {"<b>bold</b>": "<b>bold</b>"}  # type: ignore[index]
        study.attrs.values["machine"] = {"<b>name": "<b>fact"}  # type: ignore[index]
        study.attrs.values["settings"] = {"<b>set": "<b>to"}  # type: ignore[index]
    names = ("<b>here", "<b>there")
    page = write_report(studies, tmp_path, studies, names)[0].read_text(encoding="utf-8")
    assert "<b>" not in page.replace('<div class="tile"><b>', "")
    for text in ("bold&lt;/b&gt;", "name", "fact", "set=&lt;b&gt;to", "here", "there"):
        assert f"&lt;b&gt;{text}" in page


def test_an_empty_storage_says_so(tmp_path: Path) -> None:
    assert "no trials yet" in write_report([], tmp_path)[0].read_text(encoding="utf-8")


def test_the_neighbour_loses_what_was_measured(finished: Finished) -> None:
    [layer] = layers_of(finished.studies())
    losses = nearest_losses(layer, "sglang")
    assert [(loss.tokens, loss.neighbour) for loss in losses] == [(1, 64), (64, 1)]
    assert all(loss.loss is None or loss.loss > -0.5 for loss in losses)


def test_time_is_spent_within_the_trials(finished: Finished) -> None:
    for study in finished.studies():
        seconds = [t.duration.total_seconds() for t in study.trials if t.duration]
        assert abs(sum(spent_on(study.trials).values()) - sum(seconds)) < 1e-6
        assert 0 < _wall_s(study.trials) <= sum(seconds) + 1e-6


@pytest.mark.parametrize(
    ("loss", "is_measured", "words"),
    [
        (0.024, True, "+2.4 %"),
        (0.024, False, "~+2.4 %"),
        (-0.024, True, "about 0"),
        (-0.024, False, "about 0"),
        (None, False, None),
    ],
)
def test_nothing_is_slower_by_less_than_nothing(
    loss: float | None, is_measured: bool, words: str | None
) -> None:
    assert _loss_words(KeyLoss(1, 64, loss, is_measured=is_measured)) == words


def test_a_narrow_page_shows_times_before_configs(finished: Finished) -> None:
    [layer] = layers_of(finished.studies())
    header = list(layer_section(layer, ()).configs.header)
    assert header[:5] == ["engine", "batch size", "µs", "default µs", "speed-up"]
    assert header[-1] == "config"
