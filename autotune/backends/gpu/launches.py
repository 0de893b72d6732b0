"""Launches of tiled kernels, held back while an engine is called: what it would launch is written
down, or compiled, and nothing of it runs.

Which kernel an engine launches for a config, with which types and constants, is asked of its own
call, so that nothing of it is repeated here. Triton calls ``JITFunction.run`` for every launch;
kernels that take the three tile sizes are the GEMMs, others (quantisation, activation) do run.
Where nothing is held back, each GEMM's launch can be run again by itself.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from triton import knobs
from triton.runtime.jit import JITFunction

from autotune.backends.binaries import Binaries, LaunchBinary, launch_key
from autotune.kernels.compile import COMPILER_ERRORS, captured_stderr, failure_of, resources_of
from autotune.spec.binary import Which
from autotune.spec.config import KEY_OF_FIELD, Config, ConfigPair
from autotune.spec.device import Target
from autotune.spec.measurement import CompileResult

_TILE_KEYS = ("BLOCK_SIZE_M", "BLOCK_SIZE_N", "BLOCK_SIZE_K")
_USE_TMA = KEY_OF_FIELD["use_tma"]


@dataclass(frozen=True, slots=True)
class Launch:
    """One call of a tiled kernel, as its caller wrote it."""

    kernel: JITFunction[Any]
    args: tuple[Any, ...]
    keywords: Mapping[str, Any]
    """Arguments by name and compile options, without the grid."""
    grid: Any

    def compile(self) -> Any:
        """Compile it or take it from Triton's caches; nothing runs. Returns Triton's kernel."""
        return self.kernel.run(*self.args, grid=self.grid, warmup=True, **self.keywords)

    def run(self) -> None:
        """Launch it, on the tensors that it was called with."""
        self.kernel.run(*self.args, grid=self.grid, warmup=False, **self.keywords)

    def refill(self, other: Launch) -> None:
        """Copy what another launch of the same call was given into the memory that this one was
        given, in stream order. Memory that both have stays as it is. Raises ValueError where
        sizes differ."""
        for mine, others in zip(_tensors(self), _tensors(other), strict=True):
            if mine.data_ptr() == others.data_ptr():
                continue
            if (mine.shape, mine.stride()) != (others.shape, others.stride()):
                raise ValueError(
                    f"{self.kernel.fn.__name__} was given {[*mine.shape]}, then {[*others.shape]}"
                )
            mine.copy_(others)


@contextmanager
def held_back(hold: bool = True) -> Iterator[list[Launch]]:
    """Write down the launches of tiled kernels while open, in their order; where ``hold``, none of
    them runs."""
    found: list[Launch] = []
    original = JITFunction.run

    def run(kernel: JITFunction[Any], *args: Any, grid: Any, warmup: bool, **keywords: Any) -> Any:
        if warmup or not _is_tiled(kernel):
            return original(kernel, *args, grid=grid, warmup=warmup, **keywords)
        found.append(Launch(kernel, args, dict(keywords), grid))
        if hold:
            return None
        return original(kernel, *args, grid=grid, warmup=warmup, **keywords)

    JITFunction.run = run
    try:
        yield found
    finally:
        JITFunction.run = original


def binaries_of(launches: Sequence[Launch]) -> Binaries:
    """Return what a compile process needs to know of a layer's launches. What this process has in
    memory is not compiled for it: such launches are left out."""
    halves = _halves(launches)
    found = {which: _written(launch) for which, launch in halves.items()}
    return {which: binary for which, binary in found.items() if binary is not None}


def compiled(launches: Sequence[Launch], target: Target) -> dict[Which, CompileResult]:
    """Compile what is not in Triton's caches. Return what each GEMM takes, or why it cannot be
    compiled; nothing more is compiled then."""
    found: dict[Which, CompileResult] = {}
    for which, launch in _halves(launches).items():
        with captured_stderr() as dump:
            try:
                found[which] = resources_of(launch.compile(), target)
            except COMPILER_ERRORS as error:
                return {which: failure_of(error, dump())}
    return found


def config_of(launches: Sequence[Launch]) -> Config | ConfigPair | None:
    """Return the config that a layer's launches have, or the pair; None for launches whose keys
    are no config of ours."""
    halves = {which: _config(launch) for which, launch in _halves(launches).items()}
    up, down = halves.get("up"), halves.get("down")
    if up is None or down is None or up.block_size_m != down.block_size_m:
        return None
    return up if up == down else ConfigPair(up, down)


def _halves(launches: Sequence[Launch]) -> dict[Which, Launch]:
    """The first launch is the up GEMM, the last one the down GEMM."""
    return {"up": launches[0], "down": launches[-1]} if len(launches) > 1 else {}


def _is_tiled(kernel: JITFunction[Any]) -> bool:
    names = kernel.arg_names
    return all(key in names for key in _TILE_KEYS)


def _written(launch: Launch) -> LaunchBinary | None:
    """Have Triton write the launch down, and stop before it compiles."""
    found: list[LaunchBinary] = []

    def hook(*, fn: Any, compile: Mapping[str, Any], **_: Any) -> bool:
        kernel, text = fn.jit_function, compile["specialization_data"]
        key = launch_key(fn.module, fn.name, kernel.cache_key, text)
        found.append(LaunchBinary(key, fn.module, fn.name, text))
        return True

    with _hook(hook):
        launch.compile()
    return found[0] if found else None


@contextmanager
def _hook(hook: Callable[..., bool]) -> Iterator[None]:
    previous = knobs.runtime.jit_cache_hook
    knobs.runtime.jit_cache_hook = hook
    try:
        yield
    finally:
        knobs.runtime.jit_cache_hook = previous


def _config(launch: Launch) -> Config | None:
    values = launch.kernel.signature.bind_partial(*launch.args, **_parameters(launch)).arguments
    values = {**launch.keywords, **values}
    keys = {key: values[key] for key in KEY_OF_FIELD.values() if values.get(key) is not None}
    if any(map(_is_descriptor, values.values())):
        keys[_USE_TMA] = True
    try:
        return Config.from_keys(keys)
    except TypeError:
        return None


def _tensors(launch: Launch) -> list[torch.Tensor]:
    """Return every tensor that it reads or writes, also through a descriptor."""
    values = (*launch.args, *launch.keywords.values())
    bases = (value.base if _is_descriptor(value) else value for value in values)
    return [base for base in bases if isinstance(base, torch.Tensor)]


def _is_descriptor(value: Any) -> bool:
    """By name: the class has moved between versions."""
    return type(value).__name__ == "TensorDescriptor"


def _parameters(launch: Launch) -> dict[str, Any]:
    names = launch.kernel.arg_names
    return {name: value for name, value in launch.keywords.items() if name in names}
