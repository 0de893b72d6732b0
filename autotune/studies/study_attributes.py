"""A study's user attributes in a storage: names, types, what is sound, writing."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from optuna.study import Study

from autotune.spec.config import AnyConfig, config_from_keys
from autotune.spec.ranges import TOKENS, Range
from autotune.studies.key import StudyKey
from autotune.studies.lifecycle import StudyEnd
from autotune.studies.selection.finalists import Finalist, as_json, from_json
from autotune.studies.selection.select import Robust
from autotune.studies.storage.retry import DAMAGE
from autotune.studies.storage.transactions import set_attributes
from autotune.studies.trial_record import ROUTINGS_RANGE, SPEEDUP, are_times, is_launch

LAYOUT = 1
"""Version of the user attributes below. A reader refuses what is newer."""

_LAYOUT = "layout"
"""``LAYOUT``, written last: a study without it is not whole, or not ours."""
_KEY = "key"
"""``StudyKey`` as JSON."""
_MODEL = "model"
"""Name that the user gave to the last run, or the shape in words."""
_MODELS = "models"
"""The same of every run → the model as it is split, in words: layers of models may be the same.
Missing where an earlier version wrote the study."""
_ENGINES = "engines"
"""Names of the engines that the study is for."""
_OWN = "own_config"
"""Keys of the config that the engine launches by itself, where its kernel is measured;
else empty or missing."""
_FILES = "users_files"
"""Engine → keys of the config that the user's file had before a run wrote its own."""
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
"""The winner under other routings, see ``tuning.cross_routing``."""
_MACHINE = "machine"
"""Facts of the machine that ran last, for people."""
_BEST_US, _DEFAULT_US = "best_us", "default_us"
"""Times of the fastest complete trial and of the engine's default, for people; ``SPEEDUP`` beside
them."""
_NOTED = "noted"
"""The state of the study that its note and picture are of, in words."""
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
    def fault(self) -> str | None:
        """What is wrong with the first attribute that is not as we write it; None where all are."""
        for name, is_sound in _SOUND.items():
            try:
                if name not in self.values or is_sound(self):
                    continue
            except DAMAGE:
                pass
            if name == _LAYOUT:
                return "it is another application's, or a newer autotune's"
            return f"its attribute {name!r} cannot be read"
        return None if _KEY in self.values else "it is another application's"

    @property
    def models(self) -> Mapping[str, str]:
        """Each model's name → its words, as it is split; empty where only names are known."""
        return self.values.get(_MODELS, {})  # type: ignore[no-any-return]

    @property
    def model_names(self) -> tuple[str, ...]:
        """Every model that the study was tuned for, by name: runs come in any order."""
        return tuple(sorted(self.models)) or (str(self.values.get(_MODEL, "")),)

    @property
    def model(self) -> str:
        """Their names, with commas between them."""
        return ", ".join(self.model_names)

    def of_model(self, name: str) -> StudyAttributes | None:
        """Return the same, of a study for this model alone; None where it is of others."""
        found = next((each for each in self.model_names if each.lower() == name.lower()), None)
        models = {each: words for each, words in self.models.items() if each == found}
        return StudyAttributes({**self.values, _MODELS: models}) if found is not None else None

    @property
    def tokens(self) -> int:
        return int(self.values.get(_TOKENS, 0))

    @property
    def engines(self) -> tuple[str, ...]:
        return tuple(self.values.get(_ENGINES, ()))

    def of_engines(self, names: Sequence[str]) -> StudyAttributes:
        """Return the same, of a study for these engines."""
        return StudyAttributes({**self.values, _ENGINES: list(names)})

    def with_settings(self, settings: Mapping[str, Any]) -> StudyAttributes:
        """Return the same with other settings."""
        return StudyAttributes({**self.values, _SETTINGS: settings})

    @property
    def own_config(self) -> AnyConfig | None:
        """The config that the engine launches by itself, as its last run found; None without."""
        keys = self.values.get(_OWN)
        return config_from_keys(keys) if keys else None

    @property
    def users_files(self) -> dict[str, AnyConfig]:
        """Engine → the config that the user's file in the output folder had for the batch size
        before a run of the study wrote there; empty where none had any."""
        stored = self.values.get(_FILES, {})
        return {engine: config_from_keys(keys) for engine, keys in stored.items()}

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
    def noted(self) -> str:
        """The state of the study that its last note, with its picture, is of; empty without."""
        return str(self.values.get(_NOTED, ""))

    @property
    def crossings(self) -> Sequence[Mapping[str, Any]]:
        """Rows of the winner under other routings, see ``tuning.cross_routing``."""
        return self.values.get(_CROSSINGS, ())  # type: ignore[no-any-return]

    @property
    def machine(self) -> Mapping[str, str]:
        """Facts of the machine that ran last, in words."""
        return self.values.get(_MACHINE, {})  # type: ignore[no-any-return]


def _are_finalists(attrs: StudyAttributes) -> bool:
    stored = attrs.values[_FINALISTS]
    return isinstance(stored["measured"], int) and all(
        is_launch(one.config)
        and one.routings in ROUTINGS_RANGE
        and bool(one.samples_us)
        and are_times(one.samples_us)
        for one in from_json(stored["rows"])
    )


def _are_texts(values: Iterable[object]) -> bool:
    return all(isinstance(value, str) for value in values)


_SOUND: Mapping[str, Callable[[StudyAttributes], bool]] = {
    _LAYOUT: lambda attrs: attrs.values[_LAYOUT] in Range(1, LAYOUT),
    _KEY: lambda attrs: bool(attrs.key.digest),
    _MODEL: lambda attrs: _are_texts([attrs.values[_MODEL]]),
    _MODELS: lambda attrs: _are_texts([*attrs.models, *attrs.models.values()]),
    _TOKENS: lambda attrs: attrs.values[_TOKENS] in TOKENS,
    _ENGINES: lambda attrs: isinstance(attrs.values[_ENGINES], list) and _are_texts(attrs.engines),
    _OWN: lambda attrs: attrs.own_config is None or is_launch(attrs.own_config),
    _FILES: lambda attrs: all(map(is_launch, attrs.users_files.values())),
    _SETTINGS: lambda attrs: isinstance(attrs.settings, dict) and bool(attrs.robust),
    _TARGET: lambda attrs: attrs.values[_TARGET] in Range(0, 1_000_000_000),
    _SEARCH: lambda attrs: attrs.search is None or _are_texts([attrs.search.sampler]),
    _END: lambda attrs: _are_texts([attrs.values[_END]]),
    _FINALISTS: _are_finalists,
    _NOTED: lambda attrs: _are_texts([attrs.values[_NOTED]]),
    _CROSSINGS: lambda attrs: all(isinstance(row, dict) for row in attrs.crossings),
    _MACHINE: lambda attrs: _are_texts([*attrs.machine, *attrs.machine.values()]),
}
"""Attribute → whether it is as we write it; what has no value of the kind may raise instead."""


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
    *,
    models: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """Return the attributes that each run sets anew, for ``open_study``; ``models`` are added to
    those of before."""
    return {
        _MODEL: model,
        _MODELS: dict(models or {}),
        _ENGINES: list(engines),
        _TARGET: target,
        _SETTINGS: settings,
        _OWN: {} if own is None else dict(own.as_keys()),
    }


def write_users_files(study: Study, files: Mapping[str, AnyConfig]) -> None:
    """Write the user's configs by engine, beside those of engines that are not among them."""
    stored = study.user_attrs.get(_FILES, {})
    new = {engine: dict(config.as_keys()) for engine, config in files.items()}
    if new:
        _write(study, {_FILES: {**stored, **new}})


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


def write_noted(study: Study, state: str) -> None:
    """Write of which state the study's note and picture are."""
    _write(study, {_NOTED: state})


def write_machine(study: Study, facts: Mapping[str, str]) -> None:
    """Write the facts of the machine that runs."""
    _write(study, {_MACHINE: facts})


def write_best(study: Study, best_us: float, default_us: float | None) -> None:
    """Write the numbers by which people sort studies in a dashboard."""
    values = {_BEST_US: round(best_us, 2)}
    if default_us is not None:
        values |= {_DEFAULT_US: round(default_us, 2), SPEEDUP: round(default_us / best_us, 4)}
    _write(study, values)


def write_identity(study: Study, key: StudyKey, attrs: Mapping[str, Any]) -> None:
    """Write what a study is about, and what its run sets anew."""
    models = {_MODELS: {**attributes_of(study).models, **attrs.get(_MODELS, {})}}
    _write(study, {**_columns(key), **attrs, **models, _KEY: key.as_json(), _LAYOUT: LAYOUT})


def _write(study: Study, values: Mapping[str, object]) -> None:
    """Set the attributes that have other values now."""
    present = study.user_attrs
    changed = {n: v for n, v in values.items() if n not in present or present[n] != v}
    if changed:
        set_attributes(study, changed)


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
        "device": device.title,
        "triton": device.triton_version,
    }
