"""Opens a run's studies: the parent makes or mends them, its workers join them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from functools import partial

import optuna
from optuna.samplers import BaseSampler
from optuna.storages import BaseStorage, RDBStorage
from optuna.study import Study

from autotune.backends.compile_cache import CompileCache, Footprints
from autotune.backends.protocol import GuessedSpace
from autotune.settings import ModelSettings, RunSettings
from autotune.spec.config import AnyConfig
from autotune.spec.device import DeviceKind
from autotune.studies.coordination.claims import sweep
from autotune.studies.coordination.leases import Census
from autotune.studies.lifecycle import EndReason, StudyEnd
from autotune.studies.search.history import Known, StudyHistory
from autotune.studies.search.samplers import make_sampler
from autotune.studies.search.surrogate.acquisition import BegunLookup
from autotune.studies.space import SearchSpace, Space
from autotune.studies.storage.summaries import measured_studies
from autotune.studies.study_attributes import (
    SearchTerms,
    attributes_of,
    run_attributes,
    write_end,
    write_search,
    write_users_files,
)
from autotune.studies.study_record import open_study
from autotune.studies.trial_io import enqueue
from autotune.tuning.jobs import Origin, with_users_files
from autotune.tuning.tuning_study import StudyPlan, TuningStudy
from autotune.tuning.warm_start import file_configs

_SEEDS_APART = 100_003
"""Difference between the seeds of two workers; more than batch sizes, which are added too."""
_PRIOR_SHARE = 15
"""One in so many of a study's measurements starts from the static model's favourites."""
_Layer = tuple[str, ModelSettings | None]
"""A provider and a model: what of its batch sizes' configs one compile serves."""
_EVEN_GUESSES = 3
"""So many times the favourites wanted are taken to be even, but for the first: the model errs by
more than they differ. Of them those are measured that other batch sizes guess too."""


def open_studies(
    storage: BaseStorage, plans: Sequence[StudyPlan], settings: RunSettings
) -> tuple[list[TuningStudy], StudyHistory]:
    """Make or find the studies of a run, give back what dead workers left, and queue their warm
    starts; any number of runs may do so at the same time. Their samplers learn from each other,
    and from every other study in the storage."""
    history, census, terms = StudyHistory(), Census(storage), terms_of(settings)
    studies = []
    for plan, first in starts(plans, settings):
        sampler = _sampler(plan, settings, history)
        study = open_study(storage, plan.key, sampler, study_attributes(plan, settings))
        tuning = TuningStudy(plan, study, terms, settings.robust, history, _kept_end(study, terms))
        tuning.view.read()
        tuning.plan = _with_users_files(tuning)
        is_wanted = len(tuning.measured) < settings.trials and tuning.end is None
        sweep(study, tuning.view, census, queue=is_wanted)
        if is_wanted:
            enqueue(study, plan.space, first)
            tuning.view.read()
        else:  # its file stays as its finals chose, until they are measured again
            known = attributes_of(study).finalists(len(tuning.measured), settings.robust)
            tuning.finalists = tuple(known)
        studies.append(tuning)
    history.add(_known_studies(storage, studies))
    return studies, history


def _with_users_files(study: TuningStudy) -> StudyPlan:
    """Return the study's plan without what its runs wrote; the user's entries are kept in mind."""
    stored = attributes_of(study.optuna_study).users_files
    incumbents = with_users_files(study.plan.incumbents, stored, study.view.taken)
    files = {one.engine: one.config for one in incumbents if one.origin is Origin.FILE}
    write_users_files(study.optuna_study, files)
    return replace(study.plan, incumbents=incumbents)


def join_studies(
    storage: BaseStorage,
    plans: Sequence[StudyPlan],
    settings: RunSettings,
    *,
    worker: int,
    compiled: CompileCache | None,
) -> list[TuningStudy]:
    """Load the studies that ``open_studies`` has made, as a worker of the run; nothing is written.
    Workers of different numbers draw different random numbers: two that share a study must not
    propose the same. The samplers know what became of what is ``compiled``."""
    history = StudyHistory()
    settings = replace(settings, seed=settings.seed + _SEEDS_APART * worker)
    studies: list[TuningStudy] = []
    for plan in plans:
        is_compiled = plan.key.device.kind is not DeviceKind.REPLAY
        begun = partial(begun_by, studies, plan.job.provider) if is_compiled else None
        sampler = _sampler(plan, settings, history, compiled, begun)
        study = optuna.load_study(study_name=plan.key.study_name, storage=storage, sampler=sampler)
        end, terms = attributes_of(study).end, terms_of(settings)
        studies.append(TuningStudy(plan, study, terms, settings.robust, history, end))
        studies[-1].view.read()
    history.add(_known_studies(storage, studies))
    return studies


def _known_studies(storage: BaseStorage, studies: Sequence[TuningStudy]) -> Iterator[Known]:
    """Yield ``studies``, which grow, and every other study in the storage as it is now: in a
    database by a handful of queries, however many trials there are."""
    own = {study.key.study_name for study in studies}
    stored = measured_studies(storage.engine if isinstance(storage, RDBStorage) else storage)
    yield from (study for study in stored if study.key.study_name not in own)
    yield from studies


def begun_by(studies: Iterable[TuningStudy], provider: str) -> set[AnyConfig]:
    """Return what any of the studies on a provider's kernel has asked for, or is about to: the
    compiles of one serve them all."""
    same = (study for study in studies if study.plan.job.provider == provider)
    return {config for study in same for config in study.view.taken}


def _sampler(
    plan: StudyPlan,
    settings: RunSettings,
    history: StudyHistory,
    compiled: CompileCache | None = None,
    begun: BegunLookup | None = None,
) -> BaseSampler:
    footprints = None
    if compiled is not None and isinstance(plan.space, Space):
        configs = plan.space.configs
        footprints = Footprints(compiled, plan.job.problem, configs, plan.key.device)
    return make_sampler(
        settings.sampler,
        plan.space,
        settings.seed + plan.job.problem.tokens,
        history=history.siblings,
        prior_us=plan.prior_us,
        footprints=footprints,
        begun=begun,
    )


def starts(
    plans: Sequence[StudyPlan], settings: RunSettings
) -> Iterator[tuple[StudyPlan, list[tuple[AnyConfig, str]]]]:
    """Yield each plan with what is measured first, with its source in words."""
    guesses: dict[_Layer, Iterator[list[AnyConfig]]] = {}
    for layer in {_layer(plan) for plan in plans}:
        guessed = [(plan.space, plan.prior_us) for plan in plans if _layer(plan) == layer]
        guesses[layer] = iter(promising(guessed, guesses_of(settings)))
    for plan in plans:
        job = plan.job
        files = file_configs(job.problem, plan.key.device, job.engines, settings.warm_starts)
        favourites = next(guesses[_layer(plan)])
        yield (
            plan,
            [
                *((incumbent.config, incumbent.source) for incumbent in plan.incumbents),
                *files,
                *((config, "static model") for config in favourites),
            ],
        )


def _layer(plan: StudyPlan) -> _Layer:
    return plan.job.provider, plan.model


def guesses_of(settings: RunSettings) -> int:
    """Return how many of a study's first measurements the static model chooses."""
    return settings.trials // _PRIOR_SHARE


def promising(guessed: Sequence[GuessedSpace], count: int) -> list[list[AnyConfig]]:
    """Return the ``count`` most promising configs of each problem of a kernel: its fastest by the
    guess, and of the next few those that most problems have among theirs, since their compiles
    serve all. None without a guess."""
    best = [_fastest(space, prior_us, _EVEN_GUESSES * count) for space, prior_us in guessed]
    wanted = Counter(config for configs in best for config in configs)
    return [
        [*configs[:1], *sorted(configs[1:], key=wanted.__getitem__, reverse=True)][:count]
        for configs in best
    ]


def _fastest(space: SearchSpace, prior_us: Sequence[float] | None, count: int) -> list[AnyConfig]:
    """Return the ``count`` fastest configs by the guess, the best first; none without one."""
    if prior_us is None:
        return []
    best = sorted(range(len(prior_us)), key=prior_us.__getitem__)
    return [space.configs[number] for number in best[:count]]


def terms_of(settings: RunSettings) -> SearchTerms:
    """Return the terms under which the run's studies end."""
    return SearchTerms(settings.sampler, settings.trials, settings.stop_gain)


def _kept_end(study: Study, terms: SearchTerms) -> StudyEnd | None:
    """Return why the study converged, where it did under the same terms; forget other ends."""
    attributes = attributes_of(study)
    end = attributes.end
    if attributes.search == terms and end is not None and end.reason is EndReason.CONVERGED:
        return end
    write_end(study, None)
    write_search(study, terms)
    return None


def study_attributes(plan: StudyPlan, settings: RunSettings) -> dict[str, object]:
    """Return the attributes that a run sets of a study."""
    settings = settings.of_model(plan.model)
    return run_attributes(
        settings.model.name,
        [engine.name for engine in plan.job.engines],
        settings.as_json(),
        settings.trials,
        plan.own_config,
        models={model.name: model.label for model in (settings.model, *plan.also)},
    )
