"""What a misspelt word may have meant."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Return the end of a sentence that refuses ``word``: ". Did you mean tpe?", or nothing where
    it resembles none of the known."""
    names = list(dict.fromkeys(known))
    begun = [name for name in names if word.strip("-") and name.startswith(word)]
    close = difflib.get_close_matches(word, names, n=2, cutoff=0.7)
    found = (close or begun)[:2]
    return f". Did you mean {' or '.join(found)}?" if found else ""
