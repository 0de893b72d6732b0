"""The compiler's answers about binaries, kept on disk: a compile serves every batch size, every
GROUP_SIZE_M, every process and every later run.

One JSON object a line, each appended by a single write, so processes may share the file and may
be killed at any moment: a line starts with its own line break, so a torn one spoils only itself.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from functools import cache
from pathlib import Path
from typing import Any

from autotune.backends.host_facts import triton_version
from autotune.spec import binary
from autotune.spec.binary import BOTH, Which, binary_key
from autotune.spec.config import AnyConfig, Config, pair_of
from autotune.spec.device import Device, Target
from autotune.spec.measurement import (
    CompileFailure,
    CompileResult,
    FailureCause,
    Resources,
    worse_of,
)
from autotune.spec.occupancy import Footprint, held_blocks
from autotune.spec.problem import Problem

_log = logging.getLogger(__name__)

FILE_NAME = "compiled.jsonl"
_KERNEL_SOURCES = ("kernels/gemm.py", "kernels/launch.py", "spec/binary.py")


class CompileCache:
    """Answers by binary, for one target, the installed Triton and this kernel's source.

    Sees what other processes add while it is open.
    """

    def __init__(self, path: Path, target: Target) -> None:
        """``path`` and its folders are made when the first answer is put."""
        self._path = path
        self._context = f"{target} triton {triton_version()} kernel {_kernel_digest()}"
        self._answers: dict[str, CompileResult] = {}
        self._read_bytes = 0

    def get(self, binary_key: str) -> CompileResult | None:
        """None where nobody has compiled it yet."""
        if binary_key not in self._answers:
            self._read_news()
        return self._answers.get(binary_key)

    def known(self) -> Mapping[str, CompileResult]:
        """All answers by now. Must not be changed; grows with later calls."""
        self._read_news()
        return self._answers

    def put(self, binary_key: str, answer: CompileResult) -> None:
        """Keep ``answer`` for everyone, or where the disk refuses for this process alone."""
        self._answers[binary_key] = answer
        said = asdict(answer) if isinstance(answer, Resources) else {"failure": answer.reason}
        record = {"context": self._context, "binary": binary_key, **said}
        try:
            self._write(f"\n{json.dumps(record)}\n".encode())
        except OSError as error:
            _say_not_kept(f"{self._path}: {error.strerror or error}")

    def _write(self, line: bytes) -> None:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        try:
            os.write(descriptor, line)
        finally:
            os.close(descriptor)

    def keep(self, binary_key: str, answer: CompileResult) -> None:
        """Put the compiler's own answer, unless one is known. A compiler that was ended, for want
        of time or memory, may answer otherwise on another day."""
        is_final = isinstance(answer, Resources) or answer.cause is FailureCause.REFUSED
        if is_final and self.get(binary_key) is None:
            self.put(binary_key, answer)

    def _read_news(self) -> None:
        """Take in what the file has grown by, up to its last whole line."""
        try:
            with self._path.open("rb") as file:
                file.seek(self._read_bytes)
                news = file.read()
        except OSError:  # there is none yet, or ``put`` says why it cannot be
            return
        whole = news.rfind(b"\n") + 1
        self._read_bytes += whole
        for line in news[:whole].splitlines():
            record = _record(line)
            if record.get("context") == self._context:
                self._answers[record["binary"]] = _answer(record)


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


def _answer(record: dict[str, Any]) -> CompileResult:
    if "failure" in record:
        return CompileFailure(str(record["failure"]))
    return Resources(record["registers"], record["spill_bytes"], record["shared_bytes"])


def _record(line: bytes) -> dict[str, Any]:
    """Empty for a blank or torn line."""
    try:
        record = json.loads(line) if line.strip() else {}
    except ValueError:
        return {}
    return record if isinstance(record, dict) else {}


def say_where_not_kept(folder: Path) -> None:
    """Warn where answers cannot be kept in ``folder``, without making it: in the process that
    people watch, since those that compile say nothing."""
    there = next(each for each in (folder, *folder.parents) if os.access(each, os.F_OK))
    if not there.is_dir() or not os.access(there, os.W_OK | os.X_OK):
        _say_not_kept(f"{there} is no folder that may be written")


@cache
def _say_not_kept(words: str) -> None:
    _log.warning("what the compiler answers is not kept for later runs: %s", words)


@cache
def _kernel_digest() -> str:
    """Changes with the source that is compiled; read without importing Triton."""
    folder = Path(binary.__file__).parents[1]
    digest = hashlib.sha256()
    for name in _KERNEL_SOURCES:
        digest.update((folder / name).read_bytes())
    return digest.hexdigest()[:12]


class Footprints:
    """Footprints of a space's configs, as far as their binaries were compiled: for another batch
    size, by an earlier run, or ahead of time. Looked up again whenever it is called."""

    def __init__(
        self, cache: CompileCache, problem: Problem, configs: Sequence[Config], device: Device
    ) -> None:
        self._cache, self._device = cache, device
        self._configs = configs
        self._missing: dict[int, dict[Which, str]] = {
            row: {which: binary_key(problem, config, which) for which in BOTH}
            for row, config in enumerate(configs)
        }
        self._found: dict[int, Footprint] = {}
        self._answers = 0

    def __call__(self) -> Mapping[int, Footprint]:
        """Return footprints by the config's row, as far as both binaries are compiled. Must not be
        changed; grows with later calls."""
        answers = self._cache.known()
        if len(answers) != self._answers:
            self._answers = len(answers)
            self._look_up(answers)
        return self._found

    def _look_up(self, answers: Mapping[str, CompileResult]) -> None:
        for row, keys in list(self._missing.items()):
            found = {which: answers[key] for which, key in keys.items() if key in answers}
            resources = [answer for answer in found.values() if isinstance(answer, Resources)]
            if len(resources) == len(keys):
                del self._missing[row]
                blocks = held_blocks(self._configs[row], found, self._device)
                self._found[row] = Footprint(worse_of(*resources).spill_bytes, blocks)
