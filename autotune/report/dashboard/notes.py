"""The text of a study's note in the dashboard, in Markdown."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from autotune.backends.stand_in import kernel_lines
from autotune.engines import ENGINES
from autotune.report.kept import config_words
from autotune.report.layers import time_of
from autotune.shown import counted, shown
from autotune.spec.config import AnyConfig
from autotune.spec.device import DeviceKind
from autotune.spec.problem import Problem
from autotune.studies.key import StudyKey
from autotune.studies.search.history import Known, likeness, siblings
from autotune.studies.selection.finalists import Finalist
from autotune.studies.trial_record import TrialRecord, best_of, fastest_first
from autotune.tuning.engine_output import Result

_MARKUP = re.compile(r"[\\`*_\[\]()<>|&!#~]")
_BEST = 5
"""Rows of the best trials, while there are no finalists."""
_SIBLINGS = 4
_GAP = "\u2003| "
"""The dashboard's tables have no space between columns of their own: an em space makes some."""
_KIND = {
    DeviceKind.CUDA: "Measured on",
    DeviceKind.ESTIMATE: "Nothing is measured: estimated for",
    DeviceKind.REPLAY: "Replayed from a recording of",
}


@dataclass(frozen=True, slots=True)
class NotedStudy:
    """A study that a note is about: one in work, or as the storage has it."""

    key: StudyKey
    layer: str
    """The model as it is split, and its dtype."""
    sampler: str
    measured: Sequence[TrialRecord]
    target: int
    ended: str
    """The reason for an end before its target; empty where there is none."""
    results: Sequence[Result]

    @property
    def finalists(self) -> Sequence[Finalist]:
        return self.results[0].finalists if self.results else ()

    @property
    def best_us(self) -> float | None:
        best = best_of(self.measured)
        return best.geomean_us if best else None

    @property
    def default_us(self) -> float | None:
        """The fastest of the engines' defaults."""
        return min((r.default_us for r in self.results if r.default_us), default=None)


Names = Mapping[Problem, str]
"""Problem → its layer in words, as far as studies are known to be a model's."""


def note(
    noted: NotedStudy, known: Iterable[Known], names: Names, picture: str | None = None
) -> str:
    """Return the whole note. ``known`` are the studies that its sampler may learn from, ``picture``
    is the path of its chart on the dashboard's server."""
    return "\n".join(
        [
            *_head(noted),
            *_winners(noted),
            *([f"![every trial, and the finalists]({picture})\n"] if picture else []),
            *_finalists(noted),
            *_lessons(noted, known, names),
        ]
    )


def plain(text: str) -> str:
    """Return a text that a storage or a recording says as Markdown of one line without any markup
    or HTML."""
    return _MARKUP.sub(r"\\\g<0>", " ".join(shown(text).split()))


def _head(noted: NotedStudy) -> Iterator[str]:
    device = noted.key.device
    yield f"## {plain(noted.layer)}, batch size {noted.key.problem.tokens}"
    yield f"{_KIND[device.kind]} **{plain(device.name)}**, Triton {plain(device.triton_version)}."
    ended = f" It ended early ({plain(noted.ended)})." if noted.ended else ""
    yield f"{len(noted.measured)} of {counted(noted.target, device.kind.noun)}.{ended}\n"
    for line in kernel_lines((r.engine, r.problem, r.device) for r in noted.results):
        yield f"{line}.\n"


def _winners(noted: NotedStudy) -> Iterator[str]:
    """Yield the table of what the engine files say now."""
    rows = []
    for result in noted.results:
        winner = result.winner
        if winner is None:
            continue
        gain = f"{result.default_us / winner.geomean_us:.2f}×" if result.default_us else ""
        default = f"{result.default_us:.1f}" if result.default_us else "unknown"
        name = ENGINES[result.engine.name].title
        words = config_words(result.config, is_kept=result.is_kept)
        rows.append((name, f"`{words}`", f"{winner.geomean_us:.1f}", default, gain))
    if not rows:
        yield "Nothing was timed completely yet.\n"
        return
    yield from _table(("engine", "config", "µs", "default µs", "speed-up"), rows)


def _finalists(noted: NotedStudy) -> Iterator[str]:
    finalists = sorted(noted.finalists, key=lambda finalist: finalist.geomean_us)
    if finalists and noted.key.device.kind is not DeviceKind.ESTIMATE:
        yield "### Finalists"
        yield "Measured again, side by side; the interval is 95 %.\n"
        best = finalists[0]
        rows = [
            (f"`{f.config}`", f"{f.geomean_us:.1f}", _behind(f, best), _role(noted, f.config))
            for f in finalists
        ]
        yield from _table(("config", "µs", "time over the best", ""), rows)
        return
    complete = fastest_first(noted.measured)
    if complete:
        yield "### Best so far"
        plain = [
            (f"`{e.config}`", f"{e.geomean_us:.1f}", str(e.trial_number), _role(noted, e.config))
            for e in complete[:_BEST]
        ]
        yield from _table(("config", "µs", "trial", ""), plain)


def _behind(finalist: Finalist, best: Finalist) -> str:
    if finalist is best or len(finalist.samples_us) < 2 * finalist.routings:
        return "1"
    behind = finalist.over(best)
    return f"{behind.middle:.3f} ({behind.low:.3f} to {behind.high:.3f})"


def _role(noted: NotedStudy, config: AnyConfig) -> str:
    """Return who brought the config, where it is more than a trial."""
    known = (incumbent for result in noted.results for incumbent in result.incumbents)
    return ", ".join(incumbent.source for incumbent in known if incumbent.config == config)


def _lessons(noted: NotedStudy, known: Iterable[Known], names: Names) -> Iterator[str]:
    """Yield the siblings that the surrogate learns from, in its own order of likeness."""
    yield "### What the sampler knew"
    if noted.sampler != "surrogate":
        yield f"The {noted.sampler} sampler learns from this study alone."
        return
    found = siblings(noted.key, known)
    if not found:
        yield "No other study of this GPU and Triton had enough trials to learn from."
        return
    yield (
        f"It starts from {len(found)} other studies of this GPU and Triton, the most alike first: "
        "how much slower than the best each config was there.\n"
    )
    own = noted.key.problem
    rows = [
        (
            plain(names.get(s.problem, s.problem.name)),
            str(s.problem.tokens),
            f"{likeness(s.problem, own):.2f}",
            str(len(s.configs)),
            f"`{s.winner}`",
            _here(noted, s.winner),
        )
        for s in found[:_SIBLINGS]
    ]
    yield from _table(("layer", "batch size", "likeness", "trials", "its best", "here"), rows)


def _here(noted: NotedStudy, config: AnyConfig) -> str:
    """Return how a sibling's winner did in this study."""
    best = noted.best_us
    here = time_of(noted.results[0], config) if noted.results else None
    return f"{here / best:.2f}× the best" if here and best else "not tried"


def _table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> Iterator[str]:
    yield f"| {_GAP.join(header)} |"
    yield f"|{'---|' * len(header)}"
    yield from (f"| {_GAP.join(row)} |" for row in rows)
    yield ""
