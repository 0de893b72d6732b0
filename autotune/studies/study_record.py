"""Studies in a storage: made once, found again, and their user attributes with names and types."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import optuna
from optuna.samplers import BaseSampler
from optuna.storages import BaseStorage
from optuna.study import Study
from optuna.trial import FrozenTrial

from autotune.errors import StorageError
from autotune.spec.config import AnyConfig, config_from_keys
from autotune.studies.key import StudyKey
from autotune.studies.lifecycle import StudyEnd
from autotune.studies.selection.finalists import Finalist, as_json, from_json
from autotune.studies.selection.select import Robust
from autotune.studies.storage.transactions import set_attributes, study_id_of
from autotune.studies.trial_record import SPEEDUP, TrialRecord, measured

LAYOUT = 1
"""Version of the user attributes below. A reader refuses what is newer."""

_LAYOUT = "layout"
"""``LAYOUT``, written last: a study without it is not whole, or not ours."""
_KEY = "key"
"""``StudyKey`` as JSON."""
_MODEL = "model"
"""Name that the user gave, or the shape in words."""
_ENGINES = "engines"
"""Names of the engines that the study is for."""
_OWN = "own_config"
"""Keys of the config that the engine launches by itself, where its kernel is measured;
else empty or missing."""
_SETTINGS = "settings"
"""``RunSettings`` of the last run, as JSON."""
_TARGET = "target_trials"
"""Measurements that the last run wanted."""
_SEARCH = "search"
"""``SearchTerms`` as JSON."""
_END = "finished"
"""``StudyEnd.text``: empty or missing for a study that did not end before its target."""
_FINALISTS = "finalists"
"""The finalists' samples; how many measurements there were, and what counted over routings."""
_CROSSINGS = "across"
"""The winner under other routings, see ``tune.cross_routing``."""
_MACHINE = "machine"
"""Facts of the machine that ran last, for people."""
_BEST_US, _DEFAULT_US = "best_us", "default_us"
"""Times of the fastest complete trial and of the engine's default, for people; ``SPEEDUP`` beside
them."""
_TOKENS = "M"
"""Batch size; beside it stand other fields of the key for people, see ``_columns``."""


@dataclass(frozen=True, slots=True)
class SearchTerms:
    """The terms under which a study ends early: an end under other terms does not count."""

    sampler: str
    trials: int
    stop_gain: float
    """Share that the sampler must expect the next trial to save; 0: it never ends a study."""


@dataclass(frozen=True, slots=True)
class StudyAttributes:
    """The user attributes of one study, read with their types."""

    values: Mapping[str, Any]

    @property
    def is_ours(self) -> bool:
        """True for a whole study of autotune."""
        return _LAYOUT in self.values

    @property
    def layout(self) -> int:
        return int(self.values.get(_LAYOUT, LAYOUT))

    @property
    def key(self) -> StudyKey:
        return StudyKey.from_json(self.values[_KEY])

    @property
    def model(self) -> str:
        return str(self.values[_MODEL])

    @property
    def tokens(self) -> int:
        return int(self.values[_TOKENS])

    @property
    def engines(self) -> tuple[str, ...]:
        return tuple(self.values[_ENGINES])

    def of_engines(self, names: Sequence[str]) -> StudyAttributes:
        """Return the same, of a study for these engines."""
        return StudyAttributes({**self.values, _ENGINES: list(names)})

    @property
    def own_config(self) -> AnyConfig | None:
        """The config that the engine launches by itself, as its last run found; None without."""
        keys = self.values.get(_OWN)
        return config_from_keys(keys) if keys else None

    @property
    def settings(self) -> Mapping[str, Any]:
        """Settings of the last run as JSON, see ``settings_from``; may be empty."""
        return self.values.get(_SETTINGS, {})  # type: ignore[no-any-return]

    @property
    def robust(self) -> Robust:
        """The rule by which several routings count."""
        return Robust(self.settings.get("robust", Robust.MEAN))

    @property
    def target(self) -> int:
        """Measurements that the last run wanted."""
        return int(self.values.get(_TARGET, 0))

    @property
    def end(self) -> StudyEnd | None:
        """Why the study ended before its target; None where it did not."""
        return StudyEnd.parse(str(self.values.get(_END, "")))

    @property
    def search(self) -> SearchTerms | None:
        """Terms of the search that ``end`` belongs to."""
        stored = self.values.get(_SEARCH)
        return None if stored is None else SearchTerms(**stored)

    def finalists(self, count: int, robust: Robust) -> list[Finalist]:
        """Finalists of a study with ``count`` measurements; none where trials have come since, and
        where the worst loss counts now and did not then: the finalists for that are more."""
        stored = self.values.get(_FINALISTS)
        if not isinstance(stored, dict) or stored["measured"] != count:
            return []
        if robust is Robust.WORST and stored.get("robust") != robust.value:
            return []
        return from_json(stored["rows"])

    @property
    def crossings(self) -> Sequence[Mapping[str, Any]]:
        """Rows of the winner under other routings, see ``tune.cross_routing``."""
        return self.values.get(_CROSSINGS, ())  # type: ignore[no-any-return]

    @property
    def machine(self) -> Mapping[str, str]:
        """Facts of the machine that ran last, in words."""
        return self.values.get(_MACHINE, {})  # type: ignore[no-any-return]


def attributes_of(study: Study) -> StudyAttributes:
    """Read a study's attributes from its storage."""
    return StudyAttributes(study.user_attrs)


def key_of(study: Study) -> StudyKey | None:
    """Return the key of a study; None for one that is not ours."""
    attributes = attributes_of(study)
    return attributes.key if _KEY in attributes.values else None


def copy_key(source: Study, target: Study) -> None:
    """Let a study in memory be about what ``source`` is about."""
    present = source.user_attrs
    _write(target, {name: present[name] for name in (_KEY, _LAYOUT) if name in present})


def run_attributes(
    model: str,
    engines: Sequence[str],
    settings: Mapping[str, Any],
    target: int,
    own: AnyConfig | None = None,
) -> dict[str, Any]:
    """Return the attributes that each run sets anew, for ``open_study``."""
    return {
        _MODEL: model,
        _ENGINES: list(engines),
        _TARGET: target,
        _SETTINGS: settings,
        _OWN: {} if own is None else dict(own.as_keys()),
    }


def write_end(study: Study, end: StudyEnd | None) -> None:
    """Write why a study ended, or that it goes on."""
    _write(study, {_END: "" if end is None else end.text})


def write_search(study: Study, terms: SearchTerms) -> None:
    """Write the terms of a search that begins."""
    _write(study, {_SEARCH: asdict(terms)})


def write_finalists(
    study: Study, finalists: Sequence[Finalist], count: int, robust: Robust
) -> None:
    """Write the finalists of a study with ``count`` measurements."""
    rows = as_json(finalists)
    _write(study, {_FINALISTS: {"measured": count, "robust": robust.value, "rows": rows}})


def write_crossings(study: Study, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write the winner under other routings."""
    _write(study, {_CROSSINGS: list(rows)})


def write_machine(study: Study, facts: Mapping[str, str]) -> None:
    """Write the facts of the machine that runs."""
    _write(study, {_MACHINE: facts})


def write_best(study: Study, best_us: float, default_us: float | None) -> None:
    """Write the numbers by which people sort studies in a dashboard."""
    values = {_BEST_US: round(best_us, 2)}
    if default_us is not None:
        values |= {_DEFAULT_US: round(default_us, 2), SPEEDUP: round(default_us / best_us, 4)}
    _write(study, values)


def _write(study: Study, values: Mapping[str, object]) -> None:
    """Set the attributes that have other values now."""
    present = study.user_attrs
    changed = {n: v for n, v in values.items() if n not in present or present[n] != v}
    if changed:
        set_attributes(study, changed)


@dataclass(frozen=True, slots=True)
class MeasuredStudy:
    """A study with its measurements as the storage has them, read once."""

    name: str
    key: StudyKey
    attrs: StudyAttributes
    measured: list[TrialRecord]

    @property
    def robust(self) -> Robust:
        return self.attrs.robust

    @property
    def finalists(self) -> Sequence[Finalist]:
        return self.attrs.finalists(len(self.measured), self.robust)

    @property
    def is_finished(self) -> bool:
        """True where it has its measurements, or ended before."""
        return self.attrs.end is not None or len(self.measured) >= self.attrs.target


@dataclass(frozen=True, slots=True)
class StoredStudy(MeasuredStudy):
    """The same with every trial."""

    trials: tuple[FrozenTrial, ...]


def open_study(
    storage: BaseStorage, key: StudyKey, sampler: BaseSampler, attrs: Mapping[str, Any]
) -> Study:
    """Create the study of ``key``, or load it where it exists, and set what ``attrs`` changes."""
    study = optuna.create_study(
        storage=storage,
        study_name=key.study_name,
        sampler=sampler,
        direction="minimize",
        load_if_exists=True,
    )
    check_layout(study.study_name, attributes_of(study))
    _write(study, {**_columns(key), **attrs, _KEY: key.as_json(), _LAYOUT: LAYOUT})
    return study


def stored_studies(storage: BaseStorage) -> list[StoredStudy]:
    """Every study of ours in the storage, by name.

    Left out are other people's, and those that a kill left half made: ``open_study`` mends them.
    """
    found = []
    for frozen in storage.get_all_studies():
        attrs = StudyAttributes(frozen.user_attrs)
        if not attrs.is_ours:
            continue
        check_layout(frozen.study_name, attrs)
        trials = tuple(storage.get_all_trials(study_id_of(frozen), deepcopy=False))
        key, brought = attrs.key, measured(trials)
        found.append(StoredStudy(frozen.study_name, key, attrs, brought, trials))
    return sorted(found, key=lambda study: study.name)


def check_layout(name: str, attrs: StudyAttributes) -> None:
    """Raises StorageError where a newer autotune wrote the study."""
    if attrs.layout > LAYOUT:
        raise StorageError(
            f"study {name!r} was written by a newer autotune (layout {attrs.layout}; this one "
            f"knows {LAYOUT}). Upgrade autotune, or use another --storage"
        )


def _columns(key: StudyKey) -> dict[str, Any]:
    """Return the fields of the key that people look for, under the field's usual names."""
    problem, device = key.problem, key.device
    return {
        "E": problem.experts,
        "N": problem.intermediate,
        "H": problem.hidden,
        "top_k": problem.top_k,
        _TOKENS: problem.tokens,
        "dtype": problem.dtype.value,
        "device": f"{device.kind.value}:{device.name}",
        "triton": device.triton_version,
    }
