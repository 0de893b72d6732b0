"""Several runs, one after the other, as ``resume`` has them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from small_landscape import SHAPE  # type: ignore[import-not-found]

from autotune.commands.flags import RunningFlags
from autotune.commands.output import Output
from autotune.commands.run import run_all
from autotune.settings import ModelSettings, RunSettings
from autotune.tuning import session
from autotune.tuning.run_report import RunReport


def test_a_run_that_is_interrupted_before_its_search_leaves_the_words_of_those_before(
    landscape: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    model = ModelSettings(shape=SHAPE, batch_sizes=(1,))
    settings = RunSettings(model=model, device=f"replay:{landscape}", trials=2, sampler="random")
    begin, begun = session.run, list[RunSettings]()

    def interrupted(settings: RunSettings, *more: Any, **options: Any) -> RunReport:
        if begun:
            raise KeyboardInterrupt
        begun.append(settings)
        return begin(settings, *more, **options)

    monkeypatch.setattr(session, "run", interrupted)
    assert run_all([settings, settings], RunningFlags(storage="a.db"), Output()) == 130
    captured = capsys.readouterr()
    assert "wrote" in captured.out
    assert "2 new measurements" in captured.err
    begun.append(settings)
    with pytest.raises(KeyboardInterrupt, match="the same command goes on"):
        run_all([settings], RunningFlags(storage="a.db"), Output())
