"""Compiles GEMMs for any target, with or without a GPU, into Triton's disk cache.

The compile goes through a kernel's own just-in-time path (``warmup``) under a driver that
only claims to be the target, so the cache entry is, by construction, the one that a launch
on the real GPU looks up.
"""

from __future__ import annotations

import os
import re
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
import triton
from triton.backends.compiler import GPUTarget
from triton.errors import TritonError
from triton.runtime.driver import driver
from triton.runtime.jit import JITFunction, MockTensor

from autotune.kernels.gemm import moe_gemm_kernel
from autotune.kernels.launch import gemm_descriptors, gemm_scalars
from autotune.kernels.quantize import storage_dtypes_of
from autotune.spec.binary import Which, has_zero_points, launch_options
from autotune.spec.config import Config
from autotune.spec.device import Target
from autotune.spec.measurement import CompileFailure, FailureCause, Resources
from autotune.spec.problem import Problem

COMPILER_ERRORS = (TritonError, RuntimeError)
"""Errors that Triton's compiler raises for a kernel it cannot compile: its own, and the
RuntimeError of a failed MLIR pass or of ptxas."""
KEPT_BYTES = 8192
"""Bytes of a dump that are kept: its first lines name the failing pass, the rest is IR."""


@dataclass(frozen=True, slots=True)
class Compiled:
    """One binary in Triton's disk cache."""

    resources: Resources
    assembly: str
    """PTX on NVIDIA, GCN assembly on AMD."""
    cache_hash: str
    """Triton's own name of the cache entry."""
    seconds: float
    """Wall time; a few milliseconds where the entry was there already."""


def compile_gemm(
    problem: Problem, config: Config, target: Target, which: Which
) -> Compiled | CompileFailure:
    """Compile the up or down GEMM of ``config``; what the compiler writes to stderr is kept back.

    Needs no GPU. Raises RuntimeError under TRITON_INTERPRET=1, where nothing can be compiled.
    """
    is_interpreted = not isinstance(moe_gemm_kernel, JITFunction)
    if is_interpreted:
        raise RuntimeError("TRITON_INTERPRET is set: start a process without it to compile")
    return _compiled(
        moe_gemm_kernel,
        lambda: moe_gemm_kernel.warmup(
            *_pointers(problem, target),
            grid=(1,),
            **gemm_descriptors(*_tensors(problem, target), problem, config, which),
            **gemm_scalars(problem, config, which, target),
            **launch_options(config),
        ),
        target,
    )


def compile_launch(
    module: str, function: str, specialization: str, target: Target
) -> Compiled | CompileFailure:
    """Compile somebody's kernel for a launch of it that Triton has written down: the JSON that its
    ``jit_cache_hook`` is given. As ``compile_gemm``; imports the module that has the kernel."""
    kernel = getattr(import_module(module), function)
    return _compiled(kernel, lambda: kernel.preload(specialization), target)


def _compiled(
    kernel: JITFunction[Any], compile_it: Callable[[], Any], target: Target
) -> Compiled | CompileFailure:
    begin = time.perf_counter()
    with captured_stderr() as dump, _pretended(kernel, target):
        try:
            binary = compile_it()
        except COMPILER_ERRORS as error:
            return failure_of(error, dump())
    return Compiled(
        resources=resources_of(binary, target),
        assembly=binary.asm["ptx" if target.backend == "cuda" else "amdgcn"],
        cache_hash=binary.hash,
        seconds=time.perf_counter() - begin,
    )


@contextmanager
def captured_stderr() -> Iterator[Callable[[], str]]:
    """Redirect descriptor 2 of the whole process to a file while open.

    Yields a function that returns the first ``KEPT_BYTES`` of what was written so far.
    """
    sys.stderr.flush()
    saved = os.dup(2)
    with tempfile.TemporaryFile() as sink:
        os.dup2(sink.fileno(), 2)
        try:
            yield lambda: os.pread(sink.fileno(), KEPT_BYTES, 0).decode(errors="replace")
        finally:
            sys.stderr.flush()
            os.dup2(saved, 2)
            os.close(saved)


class _PretendDriver:
    """The part of a Triton driver that compiling asks for. ``device`` keys the memory cache."""

    def __init__(self, target: Target) -> None:
        self._target = target

    def get_current_target(self) -> GPUTarget:
        return GPUTarget(self._target.backend, self._target.arch, self._target.warp_size)

    def get_current_device(self) -> str:
        return str(self._target)

    def get_current_stream(self, device: object) -> int:
        return 0


@contextmanager
def _pretended(kernel: JITFunction[Any], target: Target) -> Iterator[None]:
    """Make Triton believe that ``target`` is the current device; the one place with its internals.

    Triton's ``reset_active`` would create a real driver, which fails without a GPU, so the
    slot itself is restored: ``_active`` since Triton 3.3, ``active`` before. The binaries that
    the compile left in memory are dropped: a pool process compiles thousands.
    """
    slot = "_active" if hasattr(driver, "_active") else "active"
    memory = "device_caches" if hasattr(kernel, "device_caches") else "cache"
    previous = getattr(driver, slot)
    driver.set_active(_PretendDriver(target))
    try:
        yield
    finally:
        setattr(driver, slot, previous)
        getattr(kernel, memory).pop(str(target), None)


def _pointers(problem: Problem, target: Target) -> list[MockTensor | None]:
    """Stand-ins for the pointers of the kernel, in its order, all 16-byte aligned."""
    f32, i32 = torch.float32, torch.int32
    elements = storage_dtypes_of(problem.dtype, target)
    zero = elements.b if has_zero_points(problem) else None
    types = (elements.a, elements.b, elements.c, f32, f32, zero, f32, i32, i32, i32)
    return [None if element is None else MockTensor(element) for element in types]


def _tensors(problem: Problem, target: Target) -> tuple[MockTensor, MockTensor]:
    """Stand-ins for A and B under tensor descriptors."""
    elements = storage_dtypes_of(problem.dtype, target)
    return MockTensor(elements.a, [1]), MockTensor(elements.b, [1])


def resources_of(kernel: Any, target: Target) -> Resources:
    """Return what a compiled kernel takes of a multiprocessor."""
    if target.backend != "cuda":
        registers, spill_bytes = _usage_of_gcn(kernel.asm["amdgcn"])
    else:
        try:
            registers, spill_bytes = usage_of_cubin(kernel.asm["cubin"])
        except ValueError:  # a new layout: NVIDIA's slow tool comes with Triton
            registers, spill_bytes = usage_by_cuobjdump(kernel.asm["cubin"])
    return Resources(registers, spill_bytes, shared_bytes=kernel.metadata.shared)


def usage_by_cuobjdump(content: bytes) -> tuple[int, int]:
    """(registers, stack bytes) per thread, as NVIDIA's tool says."""
    tool = Path(triton.__file__).parent / "backends" / "nvidia" / "bin" / "cuobjdump"
    with tempfile.NamedTemporaryFile(suffix=".cubin") as cubin:
        cubin.write(content)
        cubin.flush()
        command = [str(tool), "-res-usage", cubin.name]
        text = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return _number(r"\bREG:(\d+)", text), _number(r"\bSTACK:(\d+)", text)


def _usage_of_gcn(assembly: str) -> tuple[int, int]:
    """(vector registers, spilled bytes) per thread, from the metadata at the assembly's end."""
    registers = _number(r"\.vgpr_count:\s+(\d+)", assembly)
    return registers, 4 * _number(r"\.vgpr_spill_count:\s+(\d+)", assembly)


def _number(pattern: str, text: str) -> int:
    match = re.search(pattern, text)
    if match is None:
        raise ValueError(f"no {pattern} in {text[:200]!r}")
    return int(match[1])


def failure_of(error: Exception, dump: str) -> CompileFailure:
    """Make the failure of one of COMPILER_ERRORS and of what the compiler wrote meanwhile.

    Its reason is the error's last line, as source comes before it, and the dump's first complaint.
    """
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    head = lines[-1] if lines else type(error).__name__
    complaints = (line.strip() for line in dump.splitlines() if "error:" in line)
    complaint = next(complaints, "")
    reason = f"{head}: {complaint}" if complaint else head
    return CompileFailure(reason, cause=_cause(reason))


def _cause(reason: str) -> FailureCause:
    """ptxas is a process of its own: that it was killed says nothing about the kernel."""
    if re.search(r"memory (allocation|exhausted)|out of memory|bad_alloc", reason, re.IGNORECASE):
        return FailureCause.MEMORY
    if "`ptxas` raised" in reason or re.search(r"`ptxas` failed with error code -", reason):
        return FailureCause.CRASH
    return FailureCause.REFUSED


_ENTRY_SIZED = 0x04
_FRAME_SIZE, _REGISTER_COUNT = 0x11, 0x2F
"""Attributes of ``.nv.info``, each with (symbol, value): bytes of stack, and registers."""


def usage_of_cubin(cubin: bytes) -> tuple[int, int]:
    """Return (registers, stack bytes) per thread, the most of any function, from the ELF file.

    A process for NVIDIA's ``cuobjdump -res-usage`` takes longer than all else that a compile found
    in the cache takes. The layout of ``.nv.info`` is not documented; tests hold it against
    cuobjdump. Raises ValueError where ``cubin`` does not say them in the known layout.
    """
    most = {_FRAME_SIZE: 0, _REGISTER_COUNT: 0}
    try:
        for attribute, value in _attributes(_section(cubin, b".nv.info")):
            if attribute in most:
                most[attribute] = max(most[attribute], value)
    except (struct.error, IndexError) as error:
        raise ValueError(f"a cubin of an unknown layout: {error}") from error
    if not most[_REGISTER_COUNT]:
        raise ValueError("a cubin that does not name its registers")
    return most[_REGISTER_COUNT], most[_FRAME_SIZE]


def _section(elf: bytes, name: bytes) -> bytes:
    """Content of a section of a 64-bit little-endian ELF file."""
    if elf[:6] != b"\x7fELF\x02\x01":
        raise ValueError("no ELF file of 64 bits")
    (table,) = struct.unpack_from("<Q", elf, 0x28)
    size, count, names = struct.unpack_from("<HHH", elf, 0x3A)
    headers = [struct.unpack_from("<IIQQQQ", elf, table + size * i) for i in range(count)]
    names_at = headers[names][4]
    for name_at, _, _, _, offset, length in headers:
        begin = names_at + name_at
        if elf[begin : elf.index(b"\0", begin)] == name:
            return elf[offset : offset + length]
    raise ValueError(f"no section {name.decode()}")


def _attributes(info: bytes) -> Iterator[tuple[int, int]]:
    """(attribute, value) of the entries about a symbol; the others are passed over."""
    at = 0
    while at < len(info):
        form, attribute, size = struct.unpack_from("<BBH", info, at)
        at += 4
        if form != _ENTRY_SIZED:
            continue  # the value stands where others have their size
        if size == 8:
            yield attribute, struct.unpack_from("<II", info, at)[1]
        at += size
