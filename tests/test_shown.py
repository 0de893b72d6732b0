"""No password is shown, whatever its URL looks like; other text is."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, ClassVar

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from autotune.cli import run_command_line
from autotune.commands.output import write_document
from autotune.documents.base import Document
from autotune.errors import StorageError
from autotune.shown import shown, without_passwords
from autotune.studies.storage.url import parse_address, public_url

_SLIPS = (
    "postgresql://tuner:{}@db/moe",
    "postgresql://tuner:{}@db:5432/moe?x=1",
    "postgresql+psycopg://:{}@db",
    "postgresql:/tuner:{}@db/moe",
    "postgresql:tuner:{}@db/moe",
    "postgresql//tuner:{}@db/moe",
    "tuner:{}@db/moe",
    "tuner%3A{}@db/moe",
    "journal:postgresql://tuner:{}@db/moe",
    "sqlite:///tuner:{}@db/moe",
    "sqlite://tuner:{}@db/moe",
    "--strage=postgresql://tuner:{}@db/moe",
    "replay:postgresql://tuner:{}@db/moe",
    "postgresql://db/moe?user=tuner&password={}",
    "postgresql://tuner@db/moe?sslPassword={}&x=1",
    "postgresql://tuner@db/moe?options=-cx={}",
    "host=db dbname=moe password={}",
)
_PASSWORDS = st.text(
    st.characters(codec="utf-8", exclude_categories=("Z", "C"), exclude_characters="&"),
    min_size=2,
).map("qZ7".__add__)
"""None of them is a part of our own words."""


@pytest.mark.parametrize("slip", _SLIPS)
@given(password=_PASSWORDS)
@example(password="qZ70:")
def test_no_password_is_shown(slip: str, password: str) -> None:
    text = slip.format(password)
    assert password not in shown(f"error: {text} cannot be opened. Allowed: x://U@H/D")
    assert password not in public_url(text)
    try:
        parse_address(text)
    except StorageError as error:
        assert password not in str(error)


@dataclass(frozen=True, kw_only=True)
class _Said(Document):
    schema: ClassVar[str] = "autotune/said/1"
    data: Any


@pytest.mark.parametrize("indent", [None, 2])
def test_no_password_is_in_a_json_document(
    indent: int | None, capsys: pytest.CaptureFixture[str]
) -> None:
    url = "postgresql://tuner:opensesame@db/moe"
    data = {"study": "a", "model": url, url: ("kept", 1.5, None, True, [url])}
    write_document(_Said(data=data), indent)
    printed = capsys.readouterr().out
    assert "opensesame" not in printed
    hidden = "postgresql://tuner:***@db/moe"
    row = {"study": "a", "model": hidden, hidden: ["kept", 1.5, None, True, [hidden]]}
    assert json.loads(printed) == {"schema": "autotune/said/1", "data": row}


def test_a_password_with_blanks_is_not_shown() -> None:
    assert "ss" not in shown("--storage 'postgresql://tuner:pa ss@db/moe' names no file")


@pytest.mark.parametrize("words", [["{}"], ["status", "{}"], ["status", "--strage={}"]])
def test_the_parser_shows_no_password(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    url = "postgresql://tuner:opensesame@db/moe"
    assert run_command_line([word.format(url) for word in words]) == 2
    error = capsys.readouterr().err
    assert error.startswith("autotune: error: ")
    assert "tuner:***@db/moe" in error or "no flag --strage. Did you mean --storage?" in error
    assert "opensesame" not in error


@pytest.mark.parametrize(
    "text",
    [
        "no device 'x': allowed are replay:FILE.npz@15ms and cuda:0",
        "postgresql://tuner@db:5432/moe cannot be opened: no route",
        "/data/a:fire:b.db is a folder",
        "--shape E=8,topk=2: Problem(tokens=64, key=3)",
        "--storage takes postgresql+psycopg://USER@HOST/DB",
        "12 min 3 s\t1.2 µs\nsecond line",
    ],
)
def test_other_text_stays(text: str) -> None:
    assert shown(text) == text


def test_what_a_terminal_would_obey_is_escaped() -> None:
    assert shown("a\x1b[31m\udcff\r\u202eb") == r"a\x1b[31m\udcff\r\u202eb"


@given(st.text())
def test_any_text_can_be_shown(text: str) -> None:
    assert without_passwords(without_passwords(text)) == without_passwords(text)
    shown(text).encode("utf-8")
