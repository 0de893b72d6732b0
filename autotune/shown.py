"""Any text made fit to be shown: without passwords, and without what a terminal would obey."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

_HIDDEN = "***"
_LOGIN = re.compile(
    r"""
    (?P<kept> (?P<scheme> [\w.+-]+ :/+ )?  # scheme:// or, with a slip, scheme:/
              [^\s/@:=]*? )                # user
    (?: : | %3A ) (?(scheme) | (?! // ) )
    (?P<rest> \S* @
            | (?(scheme) [^\n]*? @ (?= [\w.\[\]-]+ [:/] ) | (?!) ) )  # it has blanks
    """,
    re.VERBOSE | re.IGNORECASE,
)
_OPTION = re.compile(
    r"([?&][^=&\s]*(?:pass|pwd|secret|token|key|options)[^=&\s]*=)[^&\s]*", re.IGNORECASE
)
"""Options of a URL's query whose values are nobody's business."""
_WORD = re.compile(r"(\b\w*(?:passw|pwd|secret)\w*=)\S*", re.IGNORECASE)


def shown(text: str) -> str:
    """Return a text for people and logs: what looks like a login without its password, and what
    is no printable character as its escape."""
    return "".join(map(_printable, without_passwords(text)))


def without_passwords(text: str) -> str:
    """Return a text with *** for every password in what looks like a URL, a slip in it or not."""
    text = _LOGIN.sub(_without_login, text)
    return _WORD.sub(rf"\1{_HIDDEN}", _OPTION.sub(rf"\1{_HIDDEN}", text))


def counted(number: int, one: str, many: str | None = None) -> str:
    """Return "1 study", "2 studies": a number with its noun, of which ``many`` is the plural where
    that is more than an s."""
    return f"{number} {one if number == 1 else many or one + 's'}"


def data_without_passwords(data: Any) -> Any:
    """Return data as JSON has it, of which no string, key or not, has a password."""
    if isinstance(data, str):
        return without_passwords(data)
    if isinstance(data, Mapping):
        return {data_without_passwords(k): data_without_passwords(v) for k, v in data.items()}
    if isinstance(data, list | tuple):
        return [data_without_passwords(each) for each in data]
    return data


def _without_login(found: re.Match[str]) -> str:
    if found["kept"].endswith("replay"):  # replay:FILE@15ms
        return f"{found['kept']}:{_LOGIN.sub(_without_login, found['rest'])}"
    return f"{found['kept']}:{_HIDDEN}@"


def _printable(letter: str) -> str:
    if letter.isprintable() or letter in "\n\t":
        return letter
    return letter.encode("unicode_escape").decode()
