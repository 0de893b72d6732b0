"""``run --model A --model B:tp-size=8``: several models, each with flags of its own."""

from __future__ import annotations

import argparse
from copy import copy
from pathlib import Path
from typing import NoReturn

from autotune.commands.model_flags import add_split_flags, model_settings
from autotune.errors import UsageError
from autotune.settings import ModelSettings


def models_of(flags: argparse.Namespace) -> list[ModelSettings]:
    """Make the settings of each model that ``--model`` names, in this order; of ``--shape`` where
    it names none. Raises UsageError for values that cannot work."""
    words = flags.model or [None]
    return list(dict.fromkeys(model_settings(_of_model(flags, word)) for word in words))


def _of_model(flags: argparse.Namespace, word: str | None) -> argparse.Namespace:
    """Return the flags as one model has them: after a colon stand its own. A path that is there is
    taken as it stands."""
    found = copy(flags)
    found.model = word
    if word is None or ":" not in word or _is_there(word):
        return found
    found.model, _, own = word.rpartition(":")
    parser = _OwnFlags(word)
    return parser.parse_args([f"--{flag.strip()}" for flag in own.split(",")], found)


def _is_there(path: str) -> bool:
    try:
        return Path(path).expanduser().exists()
    except (OSError, RuntimeError, ValueError):  # no name of a file, or of a user
        return False


class _OwnFlags(argparse.ArgumentParser):
    """Parses the flags of one model."""

    def __init__(self, word: str) -> None:
        super().__init__(add_help=False, allow_abbrev=False)
        self._word = word
        add_split_flags(self)

    def error(self, message: str) -> NoReturn:
        if "@" in self._word:  # a storage's URL that strayed here: the rest is its password
            message = "what stands after the last colon is no flag"
        raise UsageError(
            f"--model {self._word}: {message}. After the colon stand flags of this model with "
            "commas between, as tp-size=8,dtype=fp8_w8a8: those that say how it is split, and its "
            "dtype"
        )
