"""Finds a run of which nothing is left before any worker starts, where no GPU has to be asked."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from autotune.backends.protocol import Measurer
from autotune.errors import AutotuneError
from autotune.spec.problem import Problem
from autotune.studies.lifecycle import EndReason
from autotune.studies.storage.open import reading
from autotune.studies.storage.summaries import study_summaries
from autotune.studies.study_attributes import SearchTerms, StudyAttributes
from autotune.tuning.cross_routing import differing_in_routing
from autotune.tuning.tuning_study import TuningStudy
from autotune.tuning.workers.protocol import DescribedSpace


def described_here(measurer: Measurer, problems: Iterable[Problem]) -> list[DescribedSpace]:
    """Return the spaces of problems, without a guess of times: nothing new is to be asked."""
    return [DescribedSpace(measurer.space(problem), None, None) for problem in problems]


def ended_studies(storage_url: str, terms: SearchTerms) -> set[str]:
    """Return the names of the storage's studies that have their measurements, or ended under the
    same terms; none where there is no storage. Whether something is left to try in them,
    ``are_finished`` tells."""
    try:
        with reading(storage_url) as source:
            known = study_summaries(source)
    except AutotuneError:  # whoever opens it to write says why
        return set()
    return {s.name for s in known if s.measured >= terms.trials or _is_end(s.attrs, terms)}


def are_finished(studies: Sequence[TuningStudy]) -> bool:
    """True where no study has a trial to ask, or a winner to measure under another's routing."""
    return all(
        study.is_finished and not differing_in_routing(study.key, study.history)
        for study in studies
    )


def _is_end(attrs: StudyAttributes, terms: SearchTerms) -> bool:
    end = attrs.end
    return end is not None and end.reason is EndReason.CONVERGED and attrs.search == terms
