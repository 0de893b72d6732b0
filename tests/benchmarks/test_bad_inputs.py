"""A few hundred of the files and flags of benchmarks/survival/bad_inputs.py."""

from __future__ import annotations

import pytest
from bad_inputs import CORPORA, READ, REFUSED, Corpus, count


@pytest.mark.parametrize("corpus", CORPORA, ids=lambda corpus: corpus.name)
def test_no_input_ends_in_a_traceback(corpus: Corpus) -> None:
    ends = count(corpus, 200)
    assert ends[READ] > 10  # else nothing but the first check is tried
    assert ends[REFUSED] > 10
