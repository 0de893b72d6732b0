"""Compiles a binary, or remembers what the compiler said of it."""

from __future__ import annotations

import time
from pathlib import Path

from autotune.backends.compile_cache import FILE_NAME, CompileCache
from autotune.spec.binary import BOTH, Which, binary_key
from autotune.spec.config import AnyConfig, Config, pair_of
from autotune.spec.device import Target
from autotune.spec.measurement import CompileFailure, CompileResult
from autotune.spec.problem import Problem


class BinaryCompiler:
    """One answer for each binary, shared with other processes through ``cache_dir``.

    Torch and Triton are imported with the first compile; remembered answers need neither.
    """

    def __init__(self, cache_dir: Path, target: Target) -> None:
        """``cache_dir`` is made when the first answer is kept."""
        self._cache = CompileCache(cache_dir / FILE_NAME, target)
        self._target = target

    def answer(self, problem: Problem, config: Config, which: Which) -> CompileResult:
        """Resources of the up or down GEMM, or why it does not compile."""
        known = self._cache.get(binary_key(problem, config, which))
        return self._compiled(problem, config, which) if known is None else known

    def prepare(self, problem: Problem, config: AnyConfig) -> float:
        """Put the binaries of ``config`` into Triton's disk cache; returns the seconds it took.

        What compiles is compiled again, in milliseconds where its entry is still there.
        """
        begin = time.perf_counter()
        pair = pair_of(config)
        half: dict[Which, Config] = {"up": pair.up, "down": pair.down}
        binaries = {binary_key(problem, half[which], which): which for which in BOTH}
        for key, which in binaries.items():
            if not isinstance(self._cache.get(key), CompileFailure):
                self._compiled(problem, half[which], which)
        return time.perf_counter() - begin

    def close(self) -> None:
        """Nothing is held: the cache file is opened for each line."""

    def _compiled(self, problem: Problem, config: Config, which: Which) -> CompileResult:
        from autotune.kernels.compile import compile_gemm

        compiled = compile_gemm(problem, config, self._target, which)
        answer = compiled if isinstance(compiled, CompileFailure) else compiled.resources
        self._cache.keep(binary_key(problem, config, which), answer)
        return answer
