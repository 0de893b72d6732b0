"""Our file name of a problem, held against the one that the engine's own code makes."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable, Mapping, Sequence
from copy import copy
from dataclasses import dataclass, replace
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Protocol
from zipfile import BadZipFile
from zipfile import Path as ZipPath

from autotune.engines.base import Engine
from autotune.engines.known import speaks_of, why_unknown
from autotune.engines.own_code.pieces import Package
from autotune.engines.own_code.question import Question, RefusalError, UnknownModelError
from autotune.engines.own_code.sglang import SGLangCode
from autotune.engines.own_code.vllm import VLLMCode
from autotune.errors import NotServedError, UsageError
from autotune.models.shape import ModelShape
from autotune.spec.device import Device, DeviceKind, Target
from autotune.spec.problem import Problem

logger = logging.getLogger(__name__)

NOBODY = "none"
"""In place of sources: no engine's own code is asked."""
NAMED_DEVICE = Device(DeviceKind.CUDA, "NVIDIA H200", Target("cuda", 90), 232448, "3.6.0")
"""The device of the names that are compared: a name's other parts do not rest on it."""

_SURPRISES = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    BadZipFile,
    ImportError,
    LookupError,
    NameError,
    OSError,
    RuntimeError,
    SyntaxError,
    TypeError,
    UnknownModelError,
    ValueError,
)
"""What asking code of an unknown version may end in: nothing is known then, and our rules stay."""


class Code(Protocol):
    """An engine's own code: ``VLLMCode``, ``SGLangCode``."""

    def file_name(self, question: Question) -> str:
        """Return the name of the file that the engine looks for."""


@dataclass(frozen=True, slots=True)
class OwnCode:
    """An engine's code that is at hand."""

    version: str
    code: Code
    package: Package | None = None

    @property
    def words(self) -> str:
        """Version and place, for people."""
        place = self.package.root.filename if isinstance(self.package, ZipPath) else self.package
        return f"{self.version}, in {place}" if place else self.version


def own_code_of(engine: Engine, sources: Sequence[Path]) -> OwnCode | None:
    """Return the engine's code: the first of ``sources`` (a wheel, or a folder with wheels or an
    unpacked one) that has it, else what is installed; None where neither is, or none is wanted.

    Raises UsageError for a source that is not there.
    """
    if [str(source) for source in sources] == [NOBODY]:
        return None
    at_hand = (package for source in sources for package in _packages(source, engine.name))
    package: Package | None = next(at_hand, None)
    if package is not None:
        return OwnCode(_version_beside(package), _code(engine.name, package), package)
    installed = engine.package_folder()
    if installed is None:
        return None
    return OwnCode(installed_version(engine.name), _code(engine.name, installed), installed)


def with_own_class(engine: Engine, own: OwnCode, shape: ModelShape) -> Engine:
    """Return the engine, which has a class for the model where its code at hand has one."""
    name = shape.architecture
    if own.package is None or why_unknown(engine.name, shape, None) is None:
        return engine
    if not speaks_of(own.package, name):
        return engine
    knowing = copy(engine)
    knowing.own_classes = frozenset({name})
    return knowing


def with_own_names(engine: Engine, own: OwnCode, question: Question, problem: Problem) -> Engine:
    """Return the engine, which calls the files of ``problem`` as its own code does and says so.

    A name that differs from ours is said, and so is what could not be asked. Raises NotServedError
    where the engine refuses what we would tune, or serves another problem.
    """
    said = f"{engine.title} {own.version}"
    try:
        files = (False, True) if engine.has_down_file else (False,)
        names = [own.code.file_name(replace(question, down=down)) for down in files]
    except _SURPRISES as unknown:
        reason = " ".join(str(unknown).split()) or type(unknown).__name__
        _warn_once(
            f"{said}'s own code could not be asked ({reason}): file names are those of "
            f"{engine.version}"
        )
        return engine
    except RefusalError as refusal:
        raise NotServedError(
            f"{said} does not serve this, as its own code says: {refusal}. {_INSIST}"
        ) from refusal
    ours, theirs = engine.file_name(problem, NAMED_DEVICE), names[0]
    asked = copy(engine)
    asked.own_code = own.words
    if theirs == ours:
        return asked
    _check_same_problem(engine, said, ours, theirs)
    _warn_once(
        f"{said} looks for {theirs}, as its own code says, and by the rules of {engine.version} we "
        f"would write {ours}: its name is taken"
    )
    device = engine.device_name(NAMED_DEVICE.name)
    asked.own_names = tuple(name.replace(device, "{device}") for name in names)
    return asked


_INSIST = (
    "Nothing is tuned for it. --shape tunes a problem that you name yourself, --engine-source none "
    "asks no engine"
)


def _check_same_problem(engine: Engine, said: str, ours: str, theirs: str) -> None:
    """Raises NotServedError where two names speak of different experts, or of other scales."""
    mine, other = engine.parse_name(ours), engine.parse_name(theirs)
    if mine is None or other is None:
        return
    wanted = (other.experts, other.intermediate, other.block_shape, other.per_channel_quant)
    if wanted != (mine.experts, mine.intermediate, mine.block_shape, mine.per_channel_quant):
        raise NotServedError(
            f"{said} looks for {theirs} for this model, as its own code says; by the rules of "
            f"{engine.version} we would write {ours}, which it would never open: it serves "
            f"another problem. {_INSIST}"
        )


@cache
def _warn_once(text: str) -> None:
    """Warn once a process: names are asked for wherever jobs are made."""
    logger.warning(text)


@cache
def _code(name: str, package: Package) -> Code:
    kinds: Mapping[str, type[VLLMCode | SGLangCode]] = {"vllm": VLLMCode, "sglang": SGLangCode}
    return kinds[name](package)


def _packages(source: Path, name: str) -> list[Package]:
    """Return the packages of this name in a wheel, or in a folder."""
    if source.is_dir():
        unpacked: list[Package] = [source / name] if (source / name).is_dir() else []
        return unpacked + [_in_wheel(wheel, name) for wheel in sorted(source.glob(f"{name}-*.whl"))]
    if not source.is_file():
        raise UsageError(
            f"--engine-source {source}: there is no such file or folder. Give an engine's wheel, a "
            f"folder with wheels or with an unpacked one, or {NOBODY}"
        )
    return [_in_wheel(source, name)] if source.name.startswith(f"{name}-") else []


@cache
def _in_wheel(wheel: Path, name: str) -> ZipPath:
    try:
        return ZipPath(wheel, f"{name}/")
    except (BadZipFile, OSError) as error:
        raise UsageError(f"--engine-source {wheel} is no wheel: {error}") from error


def _version_beside(package: Package) -> str:
    """Return the version that the metadata beside a package has in its name."""
    folder = ZipPath(package.root) if isinstance(package, ZipPath) else package.parent
    entries: Iterable[Package] = folder.iterdir()
    beside = (entry.name for entry in entries)
    found = (re.fullmatch(rf"{package.name}-(.+)\.dist-info", name) for name in beside)
    return next((match[1] for match in found if match), "of an unknown version")


def installed_version(name: str) -> str:
    """Return the version of an installed engine."""
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return "of an unknown version"
