"""Templates escape whatever they are given, and are given whatever they name."""

from __future__ import annotations

import re
from collections import Counter
from html.parser import HTMLParser
from pathlib import Path

import pytest
from jinja2 import UndefinedError

from autotune.report.html import templating
from autotune.report.html.templating import Table, filled
from autotune.report.style import Picture, axes_row, styled

_TEMPLATES = Path(templating.__file__).parent / "templates"
_HOSTILE = """</style></title><script>alert(1)</script><img src=x onerror='a()' alt="b">"""


def _page(picture: Picture) -> str:
    """A page of ``compare`` with the hostile text wherever a text can be."""
    pairs = [(_HOSTILE, _HOSTILE)]
    with styled():
        return filled(
            "compare.html.j2",
            _HOSTILE,
            is_cpu=True,
            facts=pairs,
            tolerance=_HOSTILE,
            points=Table([_HOSTILE, "µs"], [[_HOSTILE, None]], texts=[_HOSTILE]),
            skipped=pairs,
            pictures=[picture],
        )


class _Read(HTMLParser):
    """What a browser takes for tags and attributes of a page."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags, self.attributes = Counter[str](), set[str]()
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags[tag] += 1
        self.attributes |= {name for name, _ in attrs}


@pytest.mark.parametrize("has_tips", [False, True], ids=["as an image", "with tips"])
def test_no_text_becomes_markup(has_tips: bool) -> None:
    with styled():
        figure, [axes] = axes_row()
        axes.plot([1, 2], [1, 2], marker="o", gid=_HOSTILE, label=_HOSTILE)
        axes.set_title(_HOSTILE)
        axes.legend()
    tips = {_HOSTILE: [_HOSTILE, _HOSTILE]} if has_tips else {}
    page = _page(Picture(_HOSTILE, _HOSTILE, _HOSTILE, figure, tips))
    read = _Read(page)
    assert not read.tags.keys() & {"script", "iframe", "object", "embed", "base", "form"}
    assert read.tags["style"] == 1 + has_tips  # a picture has its own
    assert read.tags["img"] == 1 - has_tips
    assert not [name for name in read.attributes if name.startswith("on")]
    assert page.count("&lt;script&gt;alert(1)") >= 12


def test_one_text_alone_is_taken_as_it_is() -> None:
    texts = [file.read_text(encoding="utf-8") for file in _TEMPLATES.glob("*.j2")]
    unescaped = re.findall(r"\|\s*safe|autoescape|Markup", "".join(texts))
    assert unescaped == ["| safe"]


def test_attributes_are_quoted() -> None:
    for file in _TEMPLATES.glob("*.j2"):
        assert not re.search(r"=\s*\{\{", file.read_text(encoding="utf-8")), file.name


def test_a_value_that_is_not_given_is_an_error() -> None:
    with pytest.raises(UndefinedError, match="layers"):
        filled("report.html.j2", "a title")
