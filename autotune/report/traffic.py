"""What tuned files bring a server over all the steps that it ran, each batch size by its time."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from autotune.engines import ENGINES, Engine
from autotune.studies.study_record import MeasuredStudy
from autotune.tuning.engine_output import Result
from autotune.tuning.stored_results import shares_of


@dataclass(frozen=True, slots=True)
class TrafficGain:
    """One engine's gain over the steps of a server."""

    engine: Engine
    speedup: float
    """Time of the layer with what the engine launches by itself, over that with what is written."""
    share: float
    """Of the steps' time: of the batch sizes whose two times are both known."""

    @property
    def words(self) -> str:
        """For people, with its engine."""
        part = "" if self.share > 0.995 else f", as far as both were timed: {self.share:.0%} of it"
        return f"{self.engine.title} over your traffic: {self.speedup:.2f}×{part}"


def traffic_gains(results: Iterable[Result], shares: Mapping[int, float]) -> list[TrafficGain]:
    """Return the gain of each engine that has one. ``shares`` has the share of the time that each
    batch size stands for; without any there are no gains."""
    before: defaultdict[str, float] = defaultdict(float)
    after: defaultdict[str, float] = defaultdict(float)
    for result in results:
        share = shares.get(result.problem.tokens, 0.0)
        if share and result.winner and result.default_us:
            before[result.engine.name] += share
            after[result.engine.name] += share * result.winner.geomean_us / result.default_us
    return [
        TrafficGain(ENGINES[name], before[name] / after[name], round(before[name], 4))
        for name in ENGINES
        if before[name]
    ]


def shares_of_layer(studies: Iterable[MeasuredStudy]) -> dict[int, float]:
    """Return batch size → its share of a server's time, as most studies of a layer have it: those
    of several servers are not mixed. Empty where they were told of no server."""
    told = Counter(tuple(shares_of(study).items()) for study in studies)
    told.pop((), None)
    return dict(told.most_common(1)[0][0]) if told else {}
