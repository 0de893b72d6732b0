"""Storages and engine files that somebody damaged, or another application wrote, for bad_inputs.py.

A storage is a small sound one of ours with a few things done to it: values of attributes replaced,
cells of Optuna's tables set to anything, studies of others with our names for their attributes,
bytes overwritten, the file cut. Every command that reads storages must answer with a result or in
a line.
"""

from __future__ import annotations

import functools
import json
import os
import sqlite3
import tempfile
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

from autotune.cli import run_command_line
from autotune.engines import ENGINES, read_configs, write_configs
from autotune.errors import AutotuneError
from autotune.settings import ModelSettings, RunSettings
from autotune.spec.config import Config
from autotune.spec.device import Device, DeviceKind, Target
from autotune.spec.measurement import Measurement
from autotune.spec.problem import Problem
from autotune.studies.key import StudyKey
from autotune.studies.outcome import Outcome, TrialResult
from autotune.studies.search.samplers import SAMPLERS
from autotune.studies.selection.finalists import Finalist
from autotune.studies.selection.select import Robust
from autotune.studies.space import Space
from autotune.studies.storage.open import close_storage, open_storage, opened
from autotune.studies.storage.protocol import Asked
from autotune.studies.storage.raw import raw_studies
from autotune.studies.storage.retry import STORAGE_ERRORS
from autotune.studies.storage.summaries import measured_studies
from autotune.studies.storage.transactions import transactions_of, trial_id_of
from autotune.studies.study_attributes import (
    attributes_of,
    run_attributes,
    write_crossings,
    write_finalists,
    write_machine,
)
from autotune.studies.study_record import open_study, stored_studies
from autotune.studies.trial_record import distributions, ending
from autotune.tuning.jobs import Job
from autotune.tuning.stored_results import unfinished_settings

_GPU = Device(DeviceKind.CUDA, "NVIDIA H200", Target("cuda", 90), 232_448, "3.9.0")
_CONFIGS = [Config(16, 32, 64, 1, 4, 3), Config(16, 64, 64, 1, 4, 3), Config(32, 32, 64, 8, 4, 3)]
_SPACE = Space(_CONFIGS)
_NUMBERS = st.sampled_from([0, 1, -1, 2, 7, 64, 2**31, 2**40, 2**63, 10**30, 0.5, 1e300, -0.0])
_ODD = st.sampled_from(
    [float("nan"), float("inf"), True, None, "", "x", "64", "../../x", "\x1b[31m"]
)
_JSON = st.recursive(
    _NUMBERS | _ODD | st.text(max_size=4),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3)
    ),
    max_leaves=5,
)


def sound_storage(path: Path) -> None:
    """Make a storage with two studies of ours, and one of another application."""
    storage = open_storage(str(path), create=True)
    for tokens in (1, 64):
        problem = Problem(experts=8, top_k=2, hidden=512, intermediate=256, tokens=tokens)
        key = StudyKey(problem, _GPU, _SPACE.fingerprint)
        settings = RunSettings(
            model=ModelSettings(model="m"), device="cuda", output_dir=path.parent / "configs"
        )
        attrs = run_attributes("m", ("sglang", "vllm"), settings.as_json(), 60, _CONFIGS[0])
        study = open_study(storage, key, SAMPLERS["grid"](_SPACE, 0), attrs)
        for us in (3.0, 2.0, 4.0):
            trial = study.ask(dict(distributions(_SPACE)))
            asked = Asked(trial_id_of(trial), trial.number, Config.from_keys(trial.params))
            result = TrialResult(Outcome.OK, Measurement((us, us, us), "test"), measure_s=0.1)
            transactions_of(study).finish([ending(asked, result, 3.0)])
        write_finalists(
            study, [Finalist(config, (2.0, 2.1)) for config in _CONFIGS], 3, Robust.MEAN
        )
        write_crossings(study, [])
        write_machine(study, {"Driver": "580"})
    other = storage.create_new_study(["minimize"], "another application")  # type: ignore[list-item]
    storage.set_study_user_attr(other, "layout", "grid")
    close_storage(storage)


@functools.cache
def _template() -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "s.db"
        sound_storage(path)
        with closing(sqlite3.connect(path)) as connection:
            connection.execute("PRAGMA journal_mode=DELETE")
        return path.read_bytes()


Change = tuple[str, Any]
_STUDY_ATTRS = (
    "layout", "key", "model", "engines", "own_config", "settings", "target_trials", "search",
    "finished", "finalists", "across", "machine", "M", "best_us", "dashboard:note",
)  # fmt: skip
_TRIAL_ATTRS = (
    "outcome", "samples_us", "routings", "up_us", "down_us", "reason", "compile_s", "measure_s",
    "speedup", "worker", "beat", "registers",
)  # fmt: skip
_CELLS = (
    ("trials", "state"), ("trials", "number"), ("trials", "datetime_start"),
    ("trials", "datetime_complete"), ("trials", "study_id"), ("trial_values", "value"),
    ("trial_values", "value_type"), ("trial_values", "objective"), ("trial_params", "param_value"),
    ("trial_params", "param_name"), ("trial_params", "distribution_json"),
    ("trial_user_attributes", "value_json"), ("trial_user_attributes", "key"),
    ("trial_system_attributes", "value_json"), ("study_user_attributes", "value_json"),
    ("study_user_attributes", "key"), ("study_system_attributes", "value_json"),
    ("studies", "study_name"), ("study_directions", "direction"),
    ("alembic_version", "version_num"), ("version_info", "schema_version"),
    ("version_info", "library_version"),
)  # fmt: skip
_SQL_VALUES = st.one_of(
    st.none(),
    st.integers(-(2**63), 2**63 - 1),
    st.floats(),
    st.text(st.characters(codec="utf-8"), max_size=6),
    st.binary(max_size=6),
    st.sampled_from(["COMPLETE", "PRUNED", "RUNNING", "WAITING", "FAIL", "FINITE", "INF_POS"]),
    st.sampled_from(["{", "[]", "null", "NaN", "[" * 3000, '{"name":"x"}', "autotune workers"]),
)


def _parts(value: Any) -> list[Any]:
    """Dictionaries and lists inside a JSON value, itself among them."""
    if isinstance(value, dict):
        return [value, *(part for inner in value.values() for part in _parts(inner))]
    if isinstance(value, list):
        return [value, *(part for inner in value for part in _parts(inner))]
    return []


_CHANGES: SearchStrategy[Change] = st.one_of(
    st.tuples(
        st.just("study attribute"),
        st.tuples(st.sampled_from(_STUDY_ATTRS), st.booleans(), _JSON, st.integers(0, 50)),
    ),
    st.tuples(st.just("trial attribute"), st.tuples(st.sampled_from(_TRIAL_ATTRS), _JSON)),
    st.tuples(st.just("cell"), st.tuples(st.sampled_from(_CELLS), _SQL_VALUES)),
    st.tuples(st.just("others"), st.dictionaries(st.sampled_from(_STUDY_ATTRS), _JSON, max_size=4)),
)
_FILES: SearchStrategy[Change] = st.one_of(
    st.tuples(st.just("cut"), st.integers(0, 200_000)),
    st.tuples(
        st.just("bytes"), st.tuples(st.integers(0, 200_000), st.binary(min_size=1, max_size=64))
    ),
    st.tuples(st.just("drop table"), st.sampled_from([table for table, _ in _CELLS])),
    st.tuples(st.just("content"), st.binary(max_size=200)),
)
STORAGES = st.tuples(
    st.lists(_CHANGES, min_size=1, max_size=3) | st.lists(_FILES, min_size=1, max_size=1),
    st.sampled_from(["status", "best", "export", "storage check", "learn", "resume"]),
)


def use_storage(example: tuple[list[Change], str], folder: Path) -> None:
    """Let one command read a damaged storage. Raises AutotuneError where it is refused."""
    changes, command = example
    path = folder / "s.db"
    path.write_bytes(_template())
    for change in changes:
        _DO[change[0]](path, change[1])
    here = Path.cwd()
    os.chdir(folder)
    try:
        _use(command, path)
    except STORAGE_ERRORS as error:  # the command line makes a line of it
        raise AutotuneError(str(error)) from error
    finally:
        os.chdir(here)


def _use(command: str, path: Path) -> None:
    if command == "learn":
        with opened(str(path)) as storage:
            measured_studies(storage.engine)  # type: ignore[attr-defined]
            for study in stored_studies(storage):
                attributes_of(_loaded(storage, study.name))
                assert study.finalists is not None
        return
    if command == "resume":
        with opened(str(path)) as storage:
            unfinished_settings(stored_studies(storage))
            raw_studies(storage)
        return
    code = run_command_line([*command.split(), "--storage", str(path)])
    if code:
        raise AutotuneError("the command said so")


def _loaded(storage: Any, name: str) -> Any:
    import optuna

    return optuna.load_study(study_name=name, storage=storage)


def _sql(path: Path, statement: str, *values: Any) -> list[Any]:
    with closing(sqlite3.connect(path)) as connection:
        try:
            found = connection.execute(statement, values).fetchall()
        except sqlite3.IntegrityError:
            return []  # a value that no database takes
        connection.commit()
        return found


def _study_attribute(path: Path, given: tuple[str, bool, Any, int]) -> None:
    """Replace a study's attribute, or one value somewhere inside it."""
    name, is_inside, value, place = given
    rows = _sql(path, "SELECT value_json FROM study_user_attributes WHERE key = ?", name)
    if is_inside and rows:
        whole = json.loads(rows[0][0])
        parts = [part for part in _parts(whole) if part]
        if parts:
            part = parts[place % len(parts)]
            keys = list(part) if isinstance(part, dict) else list(range(len(part)))
            part[keys[place % len(keys)]] = value
            value = whole
    text = json.dumps(value)
    where = "WHERE key = ? AND study_id = (SELECT MIN(study_id) FROM studies)"
    _sql(path, f"UPDATE study_user_attributes SET value_json = ? {where}", text, name)


def _trial_attribute(path: Path, given: tuple[str, Any]) -> None:
    name, value = given
    _sql(
        path,
        "INSERT OR REPLACE INTO trial_user_attributes (trial_id, key, value_json) VALUES (2, ?, ?)",
        name,
        json.dumps(value),
    )


def _cell(path: Path, given: tuple[tuple[str, str], Any]) -> None:
    (table, column), value = given
    where = f"WHERE rowid = (SELECT MAX(rowid) FROM {table})"
    _sql(path, f"UPDATE {table} SET {column} = ? {where}", value)


def _others(path: Path, attrs: dict[str, Any]) -> None:
    for name, value in attrs.items():
        _sql(
            path,
            "INSERT OR REPLACE INTO study_user_attributes (study_id, key, value_json) "
            "VALUES ((SELECT MAX(study_id) FROM studies), ?, ?)",
            name,
            json.dumps(value),
        )


def _bytes(path: Path, given: tuple[int, bytes]) -> None:
    at, new = given
    content = path.read_bytes()
    at %= len(content)
    path.write_bytes(content[:at] + new + content[at + len(new) :])


_DO: dict[str, Callable[[Path, Any], object]] = {
    "study attribute": _study_attribute,
    "trial attribute": _trial_attribute,
    "cell": _cell,
    "others": _others,
    "cut": lambda path, size: os.truncate(path, min(size, path.stat().st_size)),
    "bytes": _bytes,
    "drop table": lambda path, table: _sql(path, f"DROP TABLE {table}"),
    "content": lambda path, content: path.write_bytes(content),
}


# --- engine files --------------------------------------------------------------------------------

_KEYS = ("BLOCK_SIZE_M", "BLOCK_SIZE_N", "BLOCK_SIZE_K", "GROUP_SIZE_M", "num_warps", "num_stages")
_BATCHES = st.sampled_from(["1", "64", "0", "-1", "x", "", "1e3", "²", "9" * 30, "triton_version"])
_ENTRIES = st.dictionaries(
    st.sampled_from([*_KEYS, "USE_TMA", "waves_per_eu", "SPLIT_K", "x"]),
    st.sampled_from([1, 2, 4, 16, 64, 128]) | _JSON,
)
_GOOD_ENTRY = st.just(dict(zip(_KEYS, (16, 32, 64, 1, 4, 3), strict=True)))
_TEXTS = st.dictionaries(_BATCHES, _GOOD_ENTRY | _ENTRIES | _JSON, max_size=4).map(
    lambda entries: json.dumps(entries).encode()
)
ENGINE_FILES = st.tuples(
    _TEXTS | _JSON.map(lambda value: json.dumps(value).encode()) | st.binary(max_size=40),
    st.sampled_from(sorted(ENGINES)),
    st.sampled_from(["check", "convert", "lookup", "merge"]),
)


def use_engine_file(example: tuple[bytes, str, str], folder: Path) -> None:
    """Check, convert, look up or merge into a file of an engine. Raises AutotuneError where it is
    refused; a file that is refused stays as it is."""
    text, name, use = example
    engine = ENGINES[name]
    problem = Problem(experts=8, top_k=2, hidden=512, intermediate=256, tokens=64)
    path = engine.path(folder, problem, _GPU)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text)
    if use == "lookup":
        engine.lookup(engine.env_folder(folder), problem, _GPU, 64)
        Job(problem, (engine,)).incumbents(_GPU, folder)
        read_configs(path)
    elif use == "merge":
        try:
            write_configs(engine, path, {64: _CONFIGS[0]}, problem, _GPU)
        except AutotuneError:
            assert path.read_bytes() == text
            raise
        assert read_configs(path)[64] == _CONFIGS[0]
    else:
        ends = {
            "check": ["--engine", name],
            "convert": ["--from", name, "--to", "vllm", "--output", str(folder / "made")],
        }
        if run_command_line([use, str(path), *ends[use]]):
            raise AutotuneError("the command said so")
