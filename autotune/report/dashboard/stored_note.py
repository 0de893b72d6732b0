"""A study's note, written as optuna-dashboard keeps it in the storage, but without it: a machine
that only measures need not have it, and importing it takes 1.5 s of CPU, scikit-learn among it."""

from __future__ import annotations

from optuna.study import Study

from autotune.studies.storage.transactions import storage_of, study_id_of

_VERSION = "dashboard:note_ver"
"""Study attribute that counts how often the note was written."""
_PART = "dashboard:note_str:"
"""Study attributes, numbered from 0, whose texts are the note when put together."""
_LETTERS = 2045
"""Letters of a part at most, as optuna-dashboard 0.21 splits a note."""


def save_note(study: Study, text: str) -> None:
    """Make ``text`` the study's note; a note that is the same already is left alone."""
    storage, study_id = storage_of(study), study_id_of(study)
    attrs = storage.get_study_system_attrs(study_id)
    before = {name: part for name, part in attrs.items() if name.startswith(_PART)}
    parts = dict.fromkeys(before, "")
    for number, start in enumerate(range(0, len(text), _LETTERS)):
        parts[f"{_PART}{number}"] = text[start : start + _LETTERS]
    if parts == before:
        return
    storage.set_study_system_attr(study_id, _VERSION, attrs.get(_VERSION, 0) + 1)
    for name, part in parts.items():
        storage.set_study_system_attr(study_id, name, part)
