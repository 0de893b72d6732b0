from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

from autotune.commands.doctor import extra_check
from autotune.errors import MissingExtraError
from autotune.extras import EXTRAS, needed

_PROJECT = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text())["project"]


def test_extras_are_those_of_the_project_file() -> None:
    stated = {
        extra: tuple(re.split(r"[\[><=;]", line)[0] for line in lines)
        for extra, lines in _PROJECT["optional-dependencies"].items()
        if extra not in ("all", "test", "dev")
    }
    assert stated == EXTRAS


def test_nothing_that_an_extra_brings_is_asked_of_everybody() -> None:
    base = {re.split(r"[><=;]", line)[0] for line in _PROJECT["dependencies"]}
    assert base.isdisjoint({name for names in EXTRAS.values() for name in names})


def test_a_package_that_is_missing_names_what_needs_it_and_how_it_is_installed() -> None:
    with (
        pytest.raises(MissingExtraError) as caught,
        needed("report", "report"),
    ):
        import a_package_of_no_name  # type: ignore[import-not-found]  # noqa: F401
    assert str(caught.value) == (
        "report needs a_package_of_no_name, which is not installed. "
        "Try pip install 'moe-autotune[report]'"
    )


def test_a_package_that_is_broken_says_how() -> None:
    with (
        pytest.raises(MissingExtraError, match=r"cannot be imported: it is too old\. Try pip"),
        needed("capture", "capture-routing"),
    ):
        raise ImportError("it is too old", name="transformers")


def test_a_mistake_of_ours_stays_a_mistake() -> None:
    with pytest.raises(ImportError), needed("report", "report"):
        from autotune.extras import nothing  # type: ignore[attr-defined]  # noqa: F401


def test_doctor_says_which_extras_are_there(monkeypatch: pytest.MonkeyPatch) -> None:
    versions = {"jinja2": "3.1.6", "matplotlib": "3.11.2"}
    monkeypatch.setattr("autotune.commands.doctor.package_version", versions.__getitem__)
    there = extra_check("report")
    assert (there.state, there.detail) == ("ok", "jinja2 3.1.6, matplotlib 3.11.2")
    versions["matplotlib"] = "none"
    missing = extra_check("report")
    assert missing.state == "absent"
    assert missing.detail == "no matplotlib: pip install 'moe-autotune[report]'"
