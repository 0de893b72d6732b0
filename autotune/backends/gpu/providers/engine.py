"""An installed engine is checked before its provider calls it, and gets our tensors as its fused
MoE takes them: real activations, their scales' layouts.
"""

from __future__ import annotations

import inspect
import os
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module, metadata
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor

import autotune
from autotune.backends.binaries import Binaries
from autotune.backends.gpu.launches import Launch, binaries_of, compiled, config_of, held_back
from autotune.backends.gpu.providers.base import Halves, Provider, ProviderLayer, ProviderSite
from autotune.engines import ENGINES
from autotune.errors import MissingProvider, ProviderError
from autotune.kernels.inputs import GemmWeights, MoeInputs
from autotune.kernels.reference import real_x
from autotune.spec.binary import Scales, Which, scales_of
from autotune.spec.config import AnyConfig
from autotune.spec.limits import why_no_dtype
from autotune.spec.measurement import CompileResult
from autotune.spec.problem import Dtype, Problem

_NUMBERS = re.compile(r"[0-9]+(?:\.[0-9]+)*")
_UINT8_ZERO = 128


@dataclass(frozen=True, slots=True)
class Symbol:
    """A function or class, and the parameters (fields, of a class) that are given to it."""

    module: str
    name: str
    parameters: str = ""
    """Names with commas between them, as in a signature."""

    def __str__(self) -> str:
        return f"{self.module}.{self.name}"

    def missing(self, declared: Sequence[str]) -> list[str]:
        """Say which of the parameters are not declared."""
        names = re.findall(r"\w+", self.parameters)
        return [f"{self} has no {name!r}" for name in names if name not in declared]


@dataclass(frozen=True, slots=True)
class Needs:
    """A package that a provider calls, in versions from ``since`` and before ``until``."""

    package: str
    title: str
    since: str
    until: str
    symbols: Mapping[str, Symbol]
    """Symbols by the name under which the provider uses them."""

    def installed_version(self) -> str:
        """Return the version. Raises MissingProvider where the package is not installed,
        ProviderError for another version."""
        try:
            version = metadata.version(self.package)
        except metadata.PackageNotFoundError:
            raise MissingProvider(
                f"{self.title} is not installed: pip install "
                f"'{self.package}>={self.since},<{self.until}'"
            ) from None
        if not _key(self.since) <= _key(version) < _key(self.until):
            raise ProviderError(
                f"{self.title} {version} is installed; versions from {self.since} and below "
                f"{self.until} are known. Try pip install '{self.package}>={self.since},"
                f"<{self.until}', or measure our kernel: --provider autotune"
            )
        return version

    def load(self) -> dict[str, Any]:
        """Return every symbol's object. Raises ProviderError that lists all that is missing."""
        version = self.installed_version()
        found: dict[str, Any] = {}
        faults: dict[str, None] = {}  # in order, each said once
        for key, symbol in self.symbols.items():
            try:
                found[key] = getattr(import_module(symbol.module), symbol.name)
            except (ImportError, AttributeError) as error:
                faults[str(error)] = None
            else:
                faults |= dict.fromkeys(symbol.missing(_parameters(found[key])))
        if faults:
            raise ProviderError(
                f"{self.title} {version} lacks what is needed of it: {'; '.join(faults)}. "
                "Try a version before or after it"
            )
        return found


class EngineProvider(Provider):
    """A provider that calls an installed engine."""

    needs: ClassVar[Needs]

    def __init__(self, site: ProviderSite) -> None:
        """Raises MissingProvider or ProviderError."""
        super().__init__(site)
        self.version = f"{self.needs.package} {self.needs.installed_version()}"
        self._of = self.load_code()

    @classmethod
    def load_code(cls) -> dict[str, Any]:
        """See ``Provider.load_code``. Returns the engine's objects by the names of ``needs``."""
        leave_shadowing_folders()
        return cls.needs.load()

    def why_not(self, problem: Problem) -> str | None:
        return why_no_dtype(problem.dtype, self.site.target) if self.site.is_gpu else None


@dataclass(frozen=True, slots=True)
class EngineLayer(ProviderLayer):
    """A layer whose GEMMs are an engine's jitted kernels: what it launches for a config is asked
    of the engine's own call, with its GEMMs held back."""

    def launches(self, config: AnyConfig | None) -> list[Launch]:
        """Return the GEMMs' launches under ``config``; None: what the engine chooses."""
        with held_back() as found:
            self.run(config)
        return found

    def compile(self, config: AnyConfig | None) -> Mapping[Which, CompileResult]:
        try:
            launches = self.launches(config)
        except (AssertionError, KeyError, TypeError) as error:
            raise ValueError(f"{type(error).__name__}: {error}") from error
        return compiled(launches, self.inputs.target)

    def binaries(self, config: AnyConfig | None) -> Binaries:
        return binaries_of(self.launches(config))

    def own_config(self) -> AnyConfig | None:
        return config_of(self.launches(None))

    def halves(self, config: AnyConfig | None) -> Halves:
        """The engine's launches, again on the tensors of one call: it makes new ones in each, from
        which those are filled."""
        kept = self._launched(config)

        def feed() -> None:
            for launch, new in zip(kept, self._launched(config), strict=True):
                launch.refill(new)

        return Halves(feed, up=kept[0].run, down=kept[-1].run)

    def _launched(self, config: AnyConfig | None) -> list[Launch]:
        with held_back(hold=False) as found:
            self.run(config)
        return found


@dataclass(frozen=True, slots=True)
class EngineWeights:
    """B of one GEMM in both engines' layout."""

    values: Tensor
    scale: Tensor | None
    zero: Tensor | None


@dataclass(frozen=True, slots=True)
class EngineInputs:
    """``x`` [M, H] of bf16, fp16 or fp32: the engine quantises it within the call."""

    x: Tensor
    up: EngineWeights
    down: EngineWeights
    x_scale: Tensor | None
    """[1], given for Scales.TENSOR alone; the rest is found in the call."""
    down_row_scale: Tensor | None
    block_shape: list[int] | None

    @classmethod
    def of(cls, inputs: MoeInputs) -> EngineInputs:
        problem, weights = inputs.problem, inputs.weights
        is_static = scales_of(problem) is Scales.TENSOR
        return cls(
            x=real_x(inputs),
            up=_weights(inputs, weights.up),
            down=_weights(inputs, weights.down),
            x_scale=inputs.x_scale.reshape(1) if is_static else None,
            down_row_scale=weights.down_row_scale if is_static else None,
            block_shape=list(problem.block_shape) if problem.block_shape else None,
        )


def leave_shadowing_folders() -> None:
    """Take the current folder off the import path of this process, and every one that shows our
    ``kernels`` and ``studies`` at its top: SGLang imports a package of the first name."""
    here, ours = Path.cwd().resolve(), (Path(autotune.__file__).parent / "kernels").resolve()
    kept = []
    for entry in sys.path:
        folder = Path(entry).resolve()
        if folder != here and (folder / "kernels").resolve() != ours:
            kept.append(entry)
    sys.path[:] = kept


def leave_files_of(output_dir: Path) -> None:
    """Have engines in this process not read what a run writes meanwhile: what they launch by
    themselves would be its own winners, and others in the middle of it."""
    for engine in ENGINES.values():
        if engine.users_folder(os.environ, output_dir) is None:
            os.environ.pop(engine.env_variable, None)


def _parameters(found: object) -> list[str]:
    members = getattr(found, "__members__", None)
    if members is not None:
        return list(members)
    return list(inspect.signature(found).parameters) if callable(found) else []


def _key(version: str) -> tuple[int, ...]:
    match = _NUMBERS.match(version)
    return tuple(map(int, match[0].split("."))) if match else ()


def _weights(inputs: MoeInputs, weights: GemmWeights) -> EngineWeights:
    """Integer weights in groups along K: bytes with 128 added, scales of C's type."""
    kind = scales_of(inputs.problem)
    if kind is Scales.NONE:
        return EngineWeights(weights.values, None, None)
    if kind is not Scales.GROUP:
        return EngineWeights(weights.values, weights.scale, None)
    scale = weights.scale.to(inputs.elements.c)
    if inputs.problem.dtype is Dtype.INT4_W4A16:
        return EngineWeights(weights.values, scale, weights.zero)
    zero = None if weights.zero is None else _as_bytes(weights.zero)
    return EngineWeights(_as_bytes(weights.values), scale, zero)


def _as_bytes(values: Tensor) -> Tensor:
    return (values.to(torch.int16) + _UINT8_ZERO).to(torch.uint8)
