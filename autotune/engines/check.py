"""Is an engine file legal, and would the engine find and load it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from itertools import pairwise
from pathlib import Path
from typing import Any

from autotune.engines.base import DEFAULT_TOKENS, Engine
from autotune.engines.entries import TILE_KEYS, as_tokens, config_of, faults, load_body, nearest
from autotune.engines.folders import ESTIMATED, MEANING, error_words
from autotune.engines.gpus import UNKNOWN, target_of
from autotune.engines.legality import default_stages, odd_on_amd, why_no_option, why_no_room
from autotune.engines.names import NameParts
from autotune.errors import EngineFileError
from autotune.spec.device import Device, DeviceKind
from autotune.spec.problem import Dtype, Problem


class Level(StrEnum):
    """An error: the engine fails, computes wrongly, or never reads it. A warning: worth a look."""

    ERROR = "error"
    WARNING = "warning"

    def __str__(self) -> str:
        return self.value


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is wrong or odd."""

    level: Level
    key: str
    """The entry's token count as the file has it; otherwise "name", "folder", "file" or "pair"."""
    message: str


def assumed(parts: NameParts, triton_version: str = "0") -> tuple[Problem, Device]:
    """Return a problem and a device that have these parts; what a name does not say is made up.

    Shared memory and hidden size stay 0.
    """
    problem = Problem(
        experts=parts.experts,
        top_k=1,
        hidden=0,
        intermediate=parts.intermediate,
        tokens=1,
        dtype=parts.problem_dtype or Dtype.BF16,
        block_shape=parts.block_shape,
        per_channel_quant=parts.per_channel_quant,
    )
    target = target_of(parts.device_name)
    return problem, Device(DeviceKind.ESTIMATE, parts.device_name, target, 0, triton_version)


@dataclass(frozen=True, slots=True)
class CheckReport:
    """All findings about one file, and how to make the engine read it."""

    path: Path
    engine: str
    findings: tuple[Finding, ...]
    env_variable: str
    env_folder: Path | None
    """Value that ``env_variable`` must have; None where no value makes the engine read the file."""
    reads: Path | None
    """The file that the engine would open for this problem then; None if unknown."""

    @property
    def ok(self) -> bool:
        return not any(finding.level is Level.ERROR for finding in self.findings)


def check_file(path: Path, engine: Engine, *, triton_version: str | None = None) -> CheckReport:
    """Check everything that can be known from the file, its name, its folder and its sibling.

    ``triton_version`` is the serving environment's: with it, the report says which file that
    environment would open. Raises EngineFileError for a path that is not a file.
    """
    if not path.is_file():
        raise EngineFileError(f"{path} is not a file; give an engine's JSON file")
    if (other := _of_another_kernel(path, engine)) is not None:
        return CheckReport(path, engine.name, (other,), engine.env_variable, None, None)
    file = _File(path, engine, engine.parse_name(path.name), engine.folder_of(path), triton_version)
    found, reads = file.check_lookup()
    findings = [*file.check_name(), *file.check_folder(), *found]
    try:
        body = load_body(path)
    except EngineFileError as error:
        findings.append(Finding(Level.ERROR, "file", str(error)))
    else:
        findings += [*file.check_body(body), *file.check_pair(body)]
    is_looked_for = not any(f.level is Level.ERROR and f.key == "name" for f in findings)
    folder = file.folder if is_looked_for else None
    return CheckReport(path, engine.name, tuple(findings), engine.env_variable, folder, reads)


def _of_another_kernel(path: Path, engine: Engine) -> Finding | None:
    """Say what a file is that has nothing to do with Triton's MoE kernel; None for one that has."""
    if kernel := engine.other_kernel(path.name):
        message = (
            f"{engine.title}'s {kernel} kernel reads it, in the folder that {engine.title} ships, "
            "and Triton's does not: its entries are not judged here"
        )
        return Finding(Level.WARNING, "name", message)
    if engine.parse_name(path.name) is not None or not _holds_other_things(path):
        return None
    message = f"{path.name} is no MoE config file, by its name and by what it holds: not judged"
    return Finding(Level.ERROR, "name", message)


def _holds_other_things(path: Path) -> bool:
    try:
        body = load_body(path)
    except EngineFileError:
        return False
    entries = (value for value in body.values() if isinstance(value, dict))
    return bool(body) and all(entry.keys().isdisjoint(TILE_KEYS) for entry in entries)


@dataclass(frozen=True, slots=True)
class _File:
    """The file that is checked; ``parts`` are those of its name, None where it is no engine's."""

    path: Path
    engine: Engine
    parts: NameParts | None
    folder: Path | None
    triton_version: str | None

    def check_name(self) -> Iterator[Finding]:
        name, engine, parts = self.path.name, self.engine, self.parts
        if parts is None:
            example = "E=8,N=14336,device_name=NVIDIA_H200.json"
            yield Finding(Level.ERROR, "name", f"{name} is no engine file's name; like {example}")
            return
        if target_of(parts.device_name) == UNKNOWN:
            yield Finding(Level.WARNING, "name", _unknown(parts.device_name, engine))
        if not parts.device_name:
            return
        try:
            spelled = engine.spell(parts)
        except (ValueError, EngineFileError) as error:
            yield Finding(Level.ERROR, "name", str(error))
            return
        if spelled != name:
            message = (
                f"{engine.title} never looks for this name; by spelling alone it would be "
                f"{spelled}: for a model, 'autotune doctor --model' says the name"
            )
            yield Finding(Level.ERROR, "name", message)
        elif parts.problem_dtype is None:
            known = ", ".join(["float32", *(dtype.value for dtype in Dtype if dtype.is_quantized)])
            message = f"dtype={parts.dtype} is none of {known}; bf16 and fp16 have no dtype part"
            yield Finding(Level.ERROR, "name", message)

    def check_folder(self) -> Iterator[Finding]:
        if self.folder is None:
            message = (
                f"{self.engine.title} reads configs/triton_X_Y_Z/ under "
                f"${self.engine.env_variable}; this file lies in {self.path.absolute().parent}"
            )
            yield Finding(Level.ERROR, "folder", message)
            return
        above = self.folder.absolute().parent.name
        if above in MEANING:
            yield Finding(Level.WARNING, "folder", f"it lies under {above}/: {MEANING[above]}")
        if above == ESTIMATED and self.parts:
            name = self.parts.device_name
            if words := error_words(name, target_of(name)):
                yield Finding(Level.WARNING, "folder", words)

    def check_lookup(self) -> tuple[list[Finding], Path | None]:
        """Find the file that the serving environment opens, and warn if it is another one."""
        version, title = self.triton_version, self.engine.title
        if version is None or self.parts is None or self.folder is None:
            return [], None
        try:
            found = self.engine.lookup(
                self.folder, *assumed(self.parts, version), 1, down=self.parts.down
            )
        except (ValueError, EngineFileError):  # the other findings say so
            return [], None
        if found is None:
            return [], None
        if not found.path.samefile(self.path):
            message = f"with Triton {version} {title} reads {found.path} instead"
        elif found.is_fallback:
            message = f"tuned for another Triton than {version}: {title} falls back to it"
        else:
            return [], found.path
        return [Finding(Level.WARNING, "folder", message)], found.path

    def check_body(self, body: Mapping[str, Any]) -> Iterator[Finding]:
        """Yield findings about every key and entry; of a bad name those that need no problem."""
        for key, value in body.items():
            if key in self.engine.header:
                if self.triton_version and value != self.triton_version:
                    message = f"tuned with {value}, not {self.triton_version}"
                    yield Finding(Level.WARNING, key, message)
            elif as_tokens(key) is None:
                message = (
                    f"{key!r} is not a token count: {self.engine.title} fails to load the file"
                )
                yield Finding(Level.ERROR, key, message)
            else:
                yield from self._check_entry(key, value)
        missing = set(DEFAULT_TOKENS) - {as_tokens(key) for key in body}
        if missing:
            listed = ", ".join(map(str, sorted(missing)))
            message = f"no entry for {listed} tokens: a neighbour's config is used, not the default"
            yield Finding(Level.WARNING, "file", message)

    def _check_entry(self, key: str, entry: object) -> Iterator[Finding]:
        wrong = [Finding(Level.ERROR, key, fault) for fault in faults(entry, self.engine.keys)]
        if wrong or not isinstance(entry, dict):
            yield from wrong
            return
        unset = [name for name in ("num_warps", "num_stages") if name not in entry]
        if unset:
            message = f"{' and '.join(unset)} left to Triton ({self._left_to_triton()})"
            yield Finding(Level.WARNING, key, message)
        if self.parts is not None:
            yield from self._check_for_problem(key, entry, *assumed(self.parts))

    def _left_to_triton(self) -> str:
        stages = default_stages(target_of(self.parts.device_name if self.parts else ""))
        return f"4 warps, {stages or 'on NVIDIA 3, on others 2'} stages"

    def _check_for_problem(
        self, key: str, entry: Mapping[str, Any], problem: Problem, device: Device
    ) -> Iterator[Finding]:
        engine, config = self.engine, config_of(entry)
        for name, value in engine.constants(problem).items():
            if name not in entry:
                message = f"{name}: {value} is missing: {engine.title}'s kernel needs it"
                yield Finding(Level.ERROR, key, message)
        launched = engine.launched(problem, config)
        if launched != config:
            message = (
                f"{engine.title} clamps to the scale block: it launches {launched}, not {config}"
            )
            yield Finding(Level.WARNING, key, message)
        no_room = why_no_room(problem, device, launched)
        illegal = engine.why_illegal(problem, device, launched)
        for reason in (illegal, why_no_option(device, entry), no_room):
            if reason:
                yield Finding(Level.ERROR, key, reason)
        if no_room is None:
            odd = odd_on_amd(problem, device, launched)
            yield from (Finding(Level.WARNING, key, each) for each in odd)

    def check_pair(self, body: Mapping[str, Any]) -> Iterator[Finding]:
        """Yield findings about an up file without its down file, or against it, and the reverse."""
        parts = self.parts
        if parts is None:
            return
        try:
            self.engine.spell(parts)
            sibling = self.path.with_name(self.engine.spell(replace(parts, down=not parts.down)))
        except (ValueError, EngineFileError):  # no down files; a device without a name
            return
        if not sibling.exists():
            yield from self._check_missing(sibling, parts)
            return
        try:
            other = load_body(sibling)
        except EngineFileError as error:
            yield Finding(Level.ERROR, "pair", str(error))
            return
        up, down = (other, body) if parts.down else (body, other)
        yield from _check_agreement(_block_m(up), _block_m(down))

    def _check_missing(self, sibling: Path, parts: NameParts) -> Iterator[Finding]:
        """Report a missing up file always, a down file only where an older one would step in."""
        name = sibling.name
        if parts.down:
            message = f"{name} is missing: write up and down together, for the same tokens"
            yield Finding(Level.ERROR, "pair", message)
            return
        if self.folder is None:
            return
        try:
            found = self.engine.lookup(self.folder, *assumed(parts), 1, down=True)
        except EngineFileError as error:
            yield Finding(Level.WARNING, "pair", str(error))
            return
        if found and found.path.name == name:
            message = f"without {name} here, the down GEMM takes its configs from {found.path}"
            yield Finding(Level.WARNING, "pair", message)


def _unknown(device_name: str, engine: Engine) -> str:
    if not device_name:
        return (
            f"it names no GPU: {engine.title} opens it where the driver gives the GPU no name, "
            "whichever it is; rules of one architecture are not judged"
        )
    return f"{device_name} is in no table here: rules of its architecture are not judged"


def _check_agreement(up: Mapping[int, Any], down: Mapping[int, Any]) -> Iterator[Finding]:
    """Take BLOCK_SIZE_M by token count of both files."""
    if not up or not down:
        return
    if up.keys() != down.keys():
        listed = ", ".join(map(str, sorted(up.keys() ^ down.keys())))
        message = f"only one of the up and the down file has {listed} tokens: write the same keys"
        yield Finding(Level.WARNING, "pair", message)
    for tokens in sorted({*_turning_points(up), *_turning_points(down)}):
        pair = up[nearest(up, tokens)], down[nearest(down, tokens)]
        if pair[0] != pair[1]:
            message = (
                f"at {tokens} tokens up has BLOCK_SIZE_M {pair[0]} and down {pair[1]}; "
                "one alignment feeds both, and SGLang launches down with up's"
            )
            yield Finding(Level.WARNING, "pair", message)
            return


def _turning_points(keys: Iterable[int]) -> set[int]:
    """Token counts that meet every choice of nearest key: the keys, and where two are as near."""
    known = sorted(set(keys))
    middles = {(a + b) // 2 + step for a, b in pairwise(known) for step in (0, 1)}
    return middles.union(known)


def _block_m(body: Mapping[str, Any]) -> dict[int, Any]:
    entries = ((as_tokens(key), entry) for key, entry in body.items())
    return {
        tokens: entry.get("BLOCK_SIZE_M")
        for tokens, entry in entries
        if tokens is not None and isinstance(entry, dict)
    }
