"""From jobs to studies of work: one study for each."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import optuna
from optuna.samplers import BaseSampler
from optuna.storages import BaseStorage
from optuna.study import Study
from optuna.trial import TrialState

from autotune.backends.compile_cache import CompileCache
from autotune.backends.footprints import Footprints
from autotune.settings import RunSettings
from autotune.spec.config import AnyConfig
from autotune.spec.device import Device
from autotune.studies.coordination.claims import sweep
from autotune.studies.coordination.leases import Census
from autotune.studies.coordination.study_view import BEST_HALVES, StudyView
from autotune.studies.key import StudyKey
from autotune.studies.pairs import best_pairs
from autotune.studies.search.batch_sampler import BatchSampler
from autotune.studies.search.history import Known, neighbours, siblings
from autotune.studies.search.last_tries import last_tries
from autotune.studies.search.pruning import Stop, stop_for
from autotune.studies.search.samplers import make_sampler
from autotune.studies.search.surrogate.sampler import USUAL_STOP
from autotune.studies.selection.finalists import Finalist
from autotune.studies.selection.robust import Robust
from autotune.studies.space import SearchSpace, Space
from autotune.studies.study_record import open_study
from autotune.studies.trial_io import enqueue
from autotune.studies.trial_record import Measured, best_of, measured
from autotune.tune.jobs import Job
from autotune.tune.warm_start import hints

CONVERGED = "converged"
"""How the reason of a study begins that its sampler ended."""
LAST_TRY = "another GROUP_SIZE_M of the best"
"""Source of what is measured before a study ends."""
_SEEDS_APART = 100_003
"""Between two workers; more than batch sizes, which are added too."""
_PRIOR_SHARE = 10
"""One in so many of a study's measurements starts from the static model's favourites."""


@dataclass(frozen=True, slots=True)
class StudyPlan:
    """What a study is made from beside its storage; other processes make the same from it."""

    job: Job
    key: StudyKey
    space: SearchSpace
    prior_us: tuple[float, ...] | None
    """See ``Measurer``."""
    incumbents: dict[str, AnyConfig]


@dataclass(slots=True)
class TuningStudy:
    """A study in work: the live handle of one batch size."""

    job: Job
    key: StudyKey
    space: SearchSpace
    optuna_study: Study
    incumbents: dict[str, AnyConfig]
    """Source in words → what a user has today."""
    target: int
    entries: list[Measured]
    """What was measured so far, kept up by ``note``."""
    known: Sequence[Known] = ()
    """Studies to learn from; it may still grow."""
    finals: int = 0
    """Pairs put together from halves of different trials, measured beyond the target."""
    in_flight: int = 0
    """Trials of it that are being measured, by the workers of this run."""
    finalists: list[Finalist] = field(default_factory=list)
    """What was measured again, in turns; see ``tune.settle``."""
    robust: Robust = Robust.MEAN
    stop_gain: float = 0.0
    """Ends the study when its sampler expects the next trial to save a smaller share; 0: never."""
    ended: str = ""
    """Why no more is asked, where the target was not reached."""

    @property
    def measured(self) -> list[Measured]:
        """See ``history.Known``."""
        return self.entries

    def converged(self) -> str:
        """Why it is not worth to go on, or nothing: the sampler expects the next trial to save
        less than ``stop_gain`` of the best time. Samplers without such a belief never stop."""
        sampler = self.optuna_study.sampler
        if not self.stop_gain or not isinstance(sampler, BatchSampler) or self._is_queued:
            return ""
        gain = sampler.expected_gain(self.optuna_study)
        is_over = gain < self.stop_gain
        return f"{CONVERGED}: {gain:.2%} expected of the next trial" if is_over else ""

    @property
    def usual_end(self) -> int:
        """Measurements after which a study like this one ends, before any has: the target, the
        whole space, or where its sampler usually stops."""
        stops = self.stop_gain and isinstance(self.optuna_study.sampler, BatchSampler)
        return min(self.target, len(self.space), USUAL_STOP if stops else self.target)

    def take_hints(self) -> bool:
        """Queue, before a worker's turn of this study, the winners of the neighbouring batch sizes
        that it has not tried: what was measured of them by now. They are compiled already; the
        sampler learns from these studies, but it may take many trials before it asks for just
        that config. False where there are none."""
        near = neighbours(self.key, self.known)
        starts = [(s.winner, f"best at {s.problem.tokens} tokens") for s in near]
        return bool(enqueue(self.optuna_study, self.space, starts, goal=self.goal))

    @property
    def _is_queued(self) -> bool:
        """True while warm starts wait: they are measured, whatever is believed of them."""
        trials = self.optuna_study.get_trials(deepcopy=False, states=(TrialState.WAITING,))
        return bool(trials)

    @property
    def goal(self) -> int:
        """Measurements wanted by now."""
        return self.target + self.finals

    def add_finals(self) -> bool:
        """Queue, once the target is reached, the fastest halves of each BLOCK_SIZE_M together,
        where no trial had them so: times of halves add up, but only what was measured together
        is written. False where there are none."""
        pairs = best_pairs(self.entries)
        if not pairs or self.finals >= 2 * len(pairs):
            return False
        queued = enqueue(self.optuna_study, self.space, [(pair, BEST_HALVES) for pair in pairs])
        self.finals += len(queued)
        return bool(queued)

    @property
    def has_converged(self) -> bool:
        """True where its sampler has ended it."""
        return self.ended.startswith(CONVERGED)

    def add_last_tries(self) -> bool:
        """Queue, when the sampler has ended the study before its target, the best config's other
        GROUP_SIZE_M: they save less than a sampler's trial must be expected to, and cost little
        (benchmarks/samplers/last_tries.py). False where there are none that are new."""
        if not self.has_converged:
            return False
        starts = [(config, LAST_TRY) for config in last_tries(self.entries, self.space)]
        return bool(enqueue(self.optuna_study, self.space, starts, goal=self.goal))

    def reopen(self) -> None:
        """There is more to measure, whatever an earlier run wrote."""
        self.ended = ""
        if self.optuna_study.user_attrs.get("finished"):
            self.optuna_study.set_user_attr("finished", "")

    def refresh(self) -> None:
        """Take in what everybody has measured."""
        self.entries = measured(self.optuna_study.get_trials(deepcopy=False))

    def has(self, trial_number: int) -> bool:
        """True where the trial's measurement is one of the entries. The last ones come first."""
        return any(entry.trial_number == trial_number for entry in reversed(self.entries))

    @property
    def default_us(self) -> float | None:
        """The fastest default of the engines; None until one is measured."""
        defaults = {c for name, c in self.incumbents.items() if name.endswith("default")}
        times = (m.geomean_us for m in self.entries if m.complete and m.config in defaults)
        return min(times, default=None)

    def stop(self, config: AnyConfig) -> Stop | None:
        """What ``config`` is given up against. Incumbents are measured to the end: they are the
        rivals of the finals, and speed-ups are told over them."""
        return None if config in self.incumbents.values() else stop_for(self.entries)

    @property
    def best_us(self) -> float | None:
        best = best_of(self.entries)
        return best.geomean_us if best else None


def plan_study(
    job: Job,
    device: Device,
    space: SearchSpace,
    prior_us: tuple[float, ...] | None,
    output_dir: Path,
) -> StudyPlan:
    """``space`` and ``prior_us`` are what a Measurer says of the job's problem."""
    key = StudyKey(job.problem, device, space.fingerprint)
    return StudyPlan(job, key, space, prior_us, job.incumbents(device, output_dir))


def open_tuning_study(
    storage: BaseStorage,
    plan: StudyPlan,
    settings: RunSettings,
    known: Sequence[Known] = (),
    census: Census | None = None,
) -> TuningStudy:
    """Make or find the study, give back what dead workers left, and queue its warm starts. Any
    number of runs may do so at the same time.

    ``known`` are studies to learn from, this run's own among them; it may still grow.
    """
    sampler = _sampler(plan, settings, known)
    study = open_study(storage, plan.key, sampler, _attributes(plan.job, settings))
    ended = _kept_end(study, settings)
    view = StudyView(study)
    view.read()
    is_wanted = len(view.entries) < settings.trials and not ended
    sweep(study, view, census or Census(storage), queue=is_wanted)
    if is_wanted:
        starts = [(config, source) for source, config in plan.incumbents.items()]
        count = settings.trials // _PRIOR_SHARE
        job = plan.job
        warm = hints(job.problem, plan.key.device, job.engines, settings.warm_starts)
        favourites = _favourites(plan.prior_us, plan.space, count)
        enqueue(study, plan.space, [*starts, *warm, *favourites])
    return _tuning_study(plan, study, settings, known, ended)


def join_tuning_study(
    storage: BaseStorage,
    plan: StudyPlan,
    settings: RunSettings,
    known: Sequence[Known] = (),
    *,
    worker: int = 0,
    compiled: CompileCache | None = None,
) -> TuningStudy:
    """Load a study that ``open_tuning_study`` has made; nothing is written. Workers of different
    numbers draw different random numbers: two that share a study must not want the same. The
    sampler knows what became of what is ``compiled``."""
    settings = replace(settings, seed=settings.seed + _SEEDS_APART * worker)
    sampler = _sampler(plan, settings, known, compiled)
    study = optuna.load_study(study_name=plan.key.study_name, storage=storage, sampler=sampler)
    return _tuning_study(plan, study, settings, known, str(study.user_attrs.get("finished", "")))


def _sampler(
    plan: StudyPlan,
    settings: RunSettings,
    known: Sequence[Known],
    compiled: CompileCache | None = None,
) -> BaseSampler:
    footprints = None
    if compiled is not None and isinstance(plan.space, Space):
        configs = plan.space.configs
        footprints = Footprints(compiled, plan.job.problem, configs, plan.key.device)
    return make_sampler(
        settings.sampler,
        plan.space,
        settings.seed + plan.job.problem.tokens,
        history=lambda wanted: siblings(wanted, known),
        prior_us=plan.prior_us,
        footprints=footprints,
    )


def _tuning_study(
    plan: StudyPlan, study: Study, settings: RunSettings, known: Sequence[Known], ended: str
) -> TuningStudy:
    entries = measured(study.get_trials(deepcopy=False))
    return TuningStudy(
        plan.job,
        plan.key,
        plan.space,
        study,
        plan.incumbents,
        settings.trials,
        entries,
        known,
        stop_gain=settings.stop_gain,
        robust=settings.robust,
        ended=ended,
    )


def _kept_end(study: Study, settings: RunSettings) -> str:
    """Why the study converged, where it did under the same search; other ends are forgotten."""
    search = {
        "sampler": settings.sampler,
        "trials": settings.trials,
        "stop_gain": settings.stop_gain,
    }
    attrs = study.user_attrs
    end = str(attrs.get("finished", ""))
    if attrs.get("search") == search and end.startswith(CONVERGED):
        return end
    study.set_user_attr("search", search)
    study.set_user_attr("finished", "")
    return ""


def _favourites(
    prior: Sequence[float] | None, space: SearchSpace, count: int
) -> Iterator[tuple[AnyConfig, str]]:
    if prior is None:
        return
    ranked = sorted(zip(prior, space.configs, strict=True), key=lambda pair: pair[0])
    for _, config in ranked[:count]:
        yield config, "static model"


def _attributes(job: Job, settings: RunSettings) -> dict[str, object]:
    return {
        "model": settings.model.model or settings.model.shape,
        "engines": [engine.name for engine in job.engines],
        "target_trials": settings.trials,
        "settings": settings.as_json(),
    }
