"""One engine's file made legal for another, with every change said."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from autotune.engines.base import Engine, entries_by_tokens
from autotune.engines.check import assumed
from autotune.engines.entries import NUM_CTAS, USE_TMA, as_tokens, config_of, load_body, options_of
from autotune.engines.folders import MEANING
from autotune.engines.gpus import UNKNOWN, target_of
from autotune.engines.legality import default_stages, why_no_option
from autotune.engines.names import VERSION_FOLDER, VERSION_KEY, NameParts, parse_name
from autotune.engines.read_write import write_configs
from autotune.errors import EngineFileError
from autotune.spec.config import Config
from autotune.spec.device import Device
from autotune.spec.problem import Problem

_FAMILY = "NVIDIA_H200"
"""vLLM's name of an H200, an H200 NVL, …"""


@dataclass(frozen=True, slots=True)
class Conversion:
    """A file as the other engine reads it."""

    path: Path
    changes: tuple[str, ...]
    """Every difference to the source, in sentences."""
    env_folder: Path | None
    """Value of its environment variable that makes the other engine read it."""


def convert_file(
    path: Path,
    source: Engine,
    target: Engine,
    output: Path,
    *,
    triton_version: str | None = None,
    device_name: str | None = None,
    per_channel_quant: bool = False,
) -> Conversion:
    """Write the file for ``target`` into the folder ``output`` (or to it, where it is a .json
    path). Nothing is written, and EngineFileError says everything at once, where the file cannot
    be made legal, or where there is a file already.

    The machine that serves has ``triton_version`` and the GPU that its driver calls
    ``device_name``; None: as the file, its name or its folder says. ``per_channel_quant`` is for
    a file whose scales are per channel: vLLM's names do not say so.
    """
    if source.name == target.name:
        raise EngineFileError(f"--from and --to are both {source.name}: there is nothing to do")
    parts = source.parse_name(path.name)
    if kernel := source.other_kernel(path.name):
        raise EngineFileError(
            f"{path.name} is for {source.title}'s {kernel} kernel, not for Triton's: "
            f"{target.title} has no file for it"
        )
    if parts is None:
        raise EngineFileError(f"{path.name} is not a name of {source.title}'s files; see 'check'")
    if parts.problem_dtype is None:
        raise EngineFileError(f"{path.name}: dtype={parts.dtype} is unknown")
    body = load_body(path)
    renamed = replace(
        parts,
        device_name=device_name or parts.device_name,
        per_channel_quant=parts.per_channel_quant or per_channel_quant,
    )
    if not renamed.device_name:
        raise EngineFileError(f"{path.name} names no GPU; add --device-name, as its driver says")
    version = triton_version or _version_of(path, body)
    problem, device = assumed(renamed, version)
    configs, changes = _configs(body, source, target, problem, device)
    entries = entries_by_tokens(body, source.header)
    options = {tokens: options_of(entry) for tokens, entry in entries.items()}
    try:
        target.spell(renamed)
    except ValueError as error:
        raise EngineFileError(str(error)) from error
    kept = _folder_kept(path, source)
    folder = output / kept if kept and output.name != kept else output
    written = output if output.suffix == ".json" else target.path(folder, problem, device)
    if written.exists():
        raise EngineFileError(f"{written} is there already; move it away, or give another --output")
    write_configs(target, written, configs, problem, device, options=options)
    names = _name_changes(path.name, written.name)
    header = _header_changes(body, target, version)
    notes = [
        *_notes(path, (source, target), renamed, device),
        *_notes_on_origin(kept, parts, renamed),
    ]
    return Conversion(written, (*names, *header, *changes, *notes), target.folder_of(written))


def _folder_kept(path: Path, source: Engine) -> str | None:
    """Return the folder over the source that says that its configs were not measured, or not on the
    engine's kernel; a copy says so too. None where it lies under no such."""
    folder = source.folder_of(path)
    above = folder.absolute().parent.name if folder else ""
    return above if above in MEANING else None


def _notes_on_origin(kept: str | None, before: NameParts, after: NameParts) -> Iterator[str]:
    """Say what the copy's configs were not made for."""
    if kept:
        yield f"note: it comes from {kept}/: {MEANING[kept]}"
    if before.device_name and target_of(before.device_name) != target_of(after.device_name):
        yield (
            f"note: nothing was tuned for {after.device_name}: these configs are for "
            f"{before.device_name}, whose architecture is another"
        )


def _version_of(path: Path, body: Mapping[str, Any]) -> str:
    """Read the Triton version of the header, else of the folder. Raises EngineFileError."""
    header = body.get(VERSION_KEY)
    if isinstance(header, str):
        return header
    match = VERSION_FOLDER.fullmatch(path.absolute().parent.name)
    if match:
        return match[1].replace("_", ".")
    raise EngineFileError(
        f"neither {path.name} nor its folder says for which Triton it is; add --triton-version, "
        "as 3.6.0, of the machine that serves"
    )


def _configs(
    body: Mapping[str, Any], source: Engine, target: Engine, problem: Problem, device: Device
) -> tuple[dict[int, Config], list[str]]:
    """Return what the source launches by token count, without TMA where the target cannot use it,
    and what was changed. Raises EngineFileError where that is not legal."""
    configs: dict[int, Config] = {}
    changes: dict[str, list[str]] = {}
    faults = []
    for key, entry in body.items():
        if key in source.header:
            continue
        tokens = as_tokens(key)
        if tokens is None:
            faults.append(f"{key!r} is not a token count")
            continue
        try:
            config = config_of(entry, source.keys)
        except ValueError as error:
            faults.append(f"{key}: {error}")
            continue
        legal = source.launched(problem, config)
        if USE_TMA not in target.keys or target.why_illegal(problem, device, legal):
            legal = replace(legal, use_tma=None)
        stages = default_stages(device.target)
        if "num_stages" not in entry and stages:
            legal = replace(legal, num_stages=stages)
        if reason := target.why_illegal(problem, device, legal) or why_no_option(device, entry):
            faults.append(f"{key}: {reason}")
        configs[tokens] = legal
        for change in _entry_changes(entry, config, legal, (source, target, problem)):
            changes.setdefault(change, []).append(key)
    if not configs and not faults:
        faults.append("it holds no config")
    if faults:
        raise EngineFileError(f"cannot be made legal for {target.title}: {'; '.join(faults)}")
    return configs, [f"{change} (at {', '.join(keys)})" for change, keys in changes.items()]


def _entry_changes(
    entry: Mapping[str, Any], config: Config, legal: Config, between: tuple[Engine, Engine, Problem]
) -> Iterator[str]:
    source, target, problem = between
    if config.block_size_k != legal.block_size_k:
        yield (
            f"BLOCK_SIZE_K {config.block_size_k} is {legal.block_size_k}, as {source.title} "
            f"launches it with scale blocks of {list(problem.block_shape or ())}"
        )
    if USE_TMA in entry and legal.use_tma is None:
        yield f"{USE_TMA} {str(entry[USE_TMA]).lower()} is left out"
    for key in entry:
        if key in source.keys - target.keys and key != USE_TMA:
            yield f"{key} {entry[key]} is left out: {target.title}'s kernel has no such key"
    if entry.get(NUM_CTAS) == 1:
        yield f"{NUM_CTAS} 1 is left out: what Triton takes where it is missing"
    for key, value in target.constants(problem).items():
        if key not in entry:
            yield f"{key} {value} is added: {target.title}'s kernel needs it"
    for key, value in (("num_warps", legal.num_warps), ("num_stages", legal.num_stages)):
        if key not in entry:
            yield f"{key} {value} is written: what Triton takes where it is missing"


def _name_changes(before: str, after: str) -> Iterator[str]:
    """Part by part, as both names have them."""
    old, new = parse_name(before), parse_name(after)
    if old is None or new is None:
        return
    if old.device_name != new.device_name:
        yield f"device_name {old.device_name} is {new.device_name}"
    if old.intermediate != new.intermediate:
        yield f"N={old.intermediate} is N={new.intermediate}: SGLang counts bytes of two weights"
    if old.dtype != new.dtype:
        yield f"dtype={old.dtype} is left out of the name" if old.dtype else f"dtype={new.dtype}"
    if old.per_channel_quant != new.per_channel_quant:
        word = "added to" if new.per_channel_quant else "left out of"
        yield f"per_channel_quant=True is {word} the name"
    spaces = " " in before.partition("block_shape")[2], " " in after.partition("block_shape")[2]
    if spaces[0] != spaces[1]:
        word = "a" if spaces[1] else "no"
        yield f"{word} space in block_shape={list(new.block_shape or ())}"


def _header_changes(body: Mapping[str, Any], target: Engine, version: str) -> Iterator[str]:
    if VERSION_KEY in body and VERSION_KEY not in target.header:
        yield f"{VERSION_KEY} {body[VERSION_KEY]} is left out of the file: the folder says it"
    if VERSION_KEY not in body and VERSION_KEY in target.header:
        yield f"{VERSION_KEY} {version} is added"
    if VERSION_KEY in body and body[VERSION_KEY] != version:
        yield f"{VERSION_KEY} {body[VERSION_KEY]} is {version}, as you said"


def _notes(
    path: Path, between: tuple[Engine, Engine], parts: NameParts, device: Device
) -> Iterator[str]:
    """Say what the change of engine means beyond the text."""
    source, target = between
    down = path.with_name(f"{path.stem}_down.json")
    if source.has_down_file and not target.has_down_file and down.exists():
        yield f"note: {down.name} is not read, {target.title} takes one config for both GEMMs"
    if parts.dtype and "dtype=" not in target.spell(parts):
        yield f"note: {target.title} reads this name for bf16 too; serve other models elsewhere"
    if device.target == UNKNOWN:
        yield f"note: {parts.device_name} is in no table here: keys for one maker stay"
    if source.name == "vllm" and device.target.backend == "hip":
        yield (
            f"note: vLLM names AMD's GPUs by their id; where {target.title}'s driver calls yours "
            "something else, say so with --device-name"
        )
    if source.name == "vllm" and parts.device_name == _FAMILY:
        yield (
            f"note: vLLM calls every H200 {_FAMILY}; where {target.title} runs on another of them, "
            "as an H200 NVL, say so with --device-name"
        )
