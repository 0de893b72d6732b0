"""``run --model A B:tp-size=8``: several models, each with flags of its own."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from autotune.commands.flag_command import parse_flags
from autotune.commands.flag_fields import flag_fields
from autotune.commands.flag_kinds import Beside, Many, at_commas, existing_beside, is_there
from autotune.commands.model_flags import (
    MODEL_HELP,
    LayerFlags,
    SplitFlags,
    known_models,
    model_settings,
)
from autotune.errors import UsageError
from autotune.settings import ModelSettings


def words_of_models(word: str) -> list[str]:
    """Return the models between commas: "A,B:tp-size=8,dtype=fp8_w8a8,C" are three. A path that is
    there, and what looks like a login, is taken as it stands."""
    if is_there(word) or "@" in word or "://" in word:
        return [word]
    models: list[str] = []
    for part in at_commas(word):
        if models and ":" in models[-1] and _is_own_flag(part):
            models[-1] += f",{part}"
        else:
            models.append(part)
    return models


def _is_own_flag(part: str) -> bool:
    """True for what stands behind a model's colon: FLAG or FLAG=VALUE."""
    name, has_value, _ = part.partition("=")
    if has_value:
        return "/" not in name
    return any(f"--{name}" in each.names for each in flag_fields(SplitFlags))


def _beside(word: str, folder: Path) -> str:
    """Return a model of which a path, also one with flags of its own, is taken from a folder."""
    name, colon, own = word.partition(":")
    placed = existing_beside(name, folder)
    return f"{placed}{colon}{own}" if placed != name else existing_beside(word, folder)


@dataclass(frozen=True, kw_only=True)
class SeveralModelsFlags(LayerFlags):
    """The flags that name layers of several models."""

    panel = "Model"

    models: Annotated[
        tuple[str, ...],
        typer.Option(
            "--model",
            metavar="NAME",
            help=f"{MODEL_HELP}; several are tuned side by side, NAME:tp-size=8,dtype=bf16 one "
            "with flags of its own",
            autocompletion=known_models,
        ),
        Many(words_of_models),
        Beside(_beside),
    ] = ()


def models_of(flags: SeveralModelsFlags) -> list[ModelSettings]:
    """Make the settings of each model that ``--model`` names, in this order; of ``--shape`` where
    it names none. Raises UsageError for values that cannot work."""
    return list(dict.fromkeys(_settings(flags, word) for word in flags.models or (None,)))


def _settings(flags: SeveralModelsFlags, word: str | None) -> ModelSettings:
    """Make the settings of one model: after a colon stand its own flags. A path that is there is
    taken as it stands."""
    if word is None or ":" not in word or is_there(word):
        return model_settings(flags, word)
    model, _, own = word.rpartition(":")
    words = [f"--{flag.strip() or '?'}" for flag in own.split(",")]
    try:
        split = parse_flags(SplitFlags, words, vars(flags))
    except UsageError as error:
        why = str(error)
        if "@" in word:  # a storage's URL that strayed here: the rest is its password
            why = "what stands after the last colon is no flag"
        raise UsageError(
            f"--model {word}: {why}. After the colon stand flags of this model with commas "
            "between, as tp-size=8,dtype=fp8_w8a8: those that say how it is split, and its dtype"
        ) from error
    return model_settings(flags, model, split)
