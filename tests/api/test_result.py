"""Results as people take them up."""

from __future__ import annotations

import sys
from collections.abc import Iterator

import pytest
from small_landscape import SHAPE, save_landscape  # type: ignore[import-not-found]

import autotune


@pytest.fixture(scope="module")
def result(tmp_path_factory: pytest.TempPathFactory) -> Iterator[autotune.Result]:
    """What was tuned in the current folder."""
    folder = tmp_path_factory.mktemp("result")
    device = f"replay:{save_landscape(folder / 'small.npz')}"
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("XDG_CACHE_HOME", str(folder / "cache"))
        patch.delenv("AUTOTUNE_STORAGE", raising=False)
        yield autotune.tune(
            shape=SHAPE, device=device, batch_sizes=[1, 64], trials=4, sampler="random"
        )


def test_a_frame_has_a_column_for_each_field_and_key(result: autotune.Result) -> None:
    pytest.importorskip("pandas")
    table = result.table()
    assert list(table["us"]) == [row["us"] for row in result.rows()]
    assert list(table["BLOCK_SIZE_M"]) == [row.config["BLOCK_SIZE_M"] for row in result.results]
    assert "config" not in table


def test_without_pandas_it_says_what_to_install(
    result: autotune.Result, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(autotune.AutotuneError, match="pip install pandas"):
        result.table()


def test_text_and_a_cell_show_what_the_command_prints(result: autotune.Result) -> None:
    text, html = str(result), result._repr_html_()
    assert "replaying a recording" in text.splitlines()[0]
    assert "speed-up" in text.splitlines()[1]
    for words in (*(f"wrote {file.path}" for file in result.files), "VLLM_TUNED_CONFIG_FOLDER="):
        assert words in text
        assert words in html
    assert repr(result) == "<autotune.Result with 4 results>"
    assert "new measurements" in result.notes[-1]


def test_a_storage_shows_what_best_prints_and_no_password(result: autotune.Result) -> None:
    stored = autotune.load()
    assert str(stored).splitlines()[0].startswith(SHAPE[:4])
    assert repr(stored) == "<autotune.StoredResult with 4 results>"
    assert stored.rows() == result.rows()
    assert stored.unfinished == 0
