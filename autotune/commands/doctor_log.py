"""``doctor --server-log``: which tuned files a server opened, as its log says, and what to run to
make those that it missed."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import BinaryIO

from autotune.commands.missing_files import Adviser, export_line
from autotune.commands.model_flags import ModelFlags
from autotune.commands.output import Output
from autotune.documents.lookups import ServingRow
from autotune.documents.server_log import ServedFile, ServedKernel, ServerLogDocument, ServerRow
from autotune.engines.check import assumed
from autotune.engines.served import Backend, FileState, Lookup, Seen, Server, read_servers
from autotune.engines.server_log import LogLine, log_lines
from autotune.errors import UsageError
from autotune.exit_codes import ExitCode
from autotune.report.terminal.server_rows import server_views
from autotune.report.terminal.serving_rows import serving_rows
from autotune.spec.device import Target

_STDIN = "-"
_RUNNERS_WITH_FILES = ("", "auto", "triton")
"""SGLang's ``--moe-runner-backend``; ``auto`` may come to another one."""
_TOLD = ("moe_backend", "moe_runner_backend")
"""Arguments by which a server is told which kernel to take."""
_TARGETS = (
    *(Target("cuda", arch) for arch in (80, 89, 90, 100, 120)),
    *(Target("hip", arch, 64) for arch in ("gfx942", "gfx950")),
)
"""A GPU of each family that the engines' rules tell apart: a log does not name the GPU where no
file was looked for."""


def run(log: str, flags: ModelFlags, output: Output) -> int:
    """Say what the log says. FAILED unless each server looked for files, opened them all, and took
    no kernel that reads none."""
    if flags.shape:
        raise UsageError(
            "--shape with --server-log: the log says the layers. --model names the model where "
            "the log does not, or where it is a folder of another machine"
        )
    with _opened(log) as stream:
        lines = _Counted(log_lines(stream, log))
        servers = read_servers(lines)
    advisers = (Adviser.of(each, flags.model, flags.engine_sources) for each in servers)
    found = ServerLogDocument(
        log=None if log == _STDIN else Path(log),
        lines=lines.count,
        servers=tuple(map(_server_row, advisers)),
    )
    output.result(found, *server_views(found))
    is_fine = bool(found.servers) and all(row.all_opened for row in found.servers)
    return ExitCode.DONE if is_fine else ExitCode.FAILED


class _Counted:
    """The lines of a log, counted as they go by."""

    def __init__(self, lines: Iterable[LogLine]) -> None:
        self._lines = lines
        self.count = 0

    def __iter__(self) -> Iterator[LogLine]:
        for line in self._lines:
            self.count = line.number
            yield line


@contextmanager
def _opened(name: str) -> Iterator[BinaryIO]:
    try:
        with nullcontext(sys.stdin.buffer) if name == _STDIN else Path(name).open("rb") as stream:
            yield stream
    except OSError as error:
        raise UsageError(
            f"--server-log {name} cannot be read ({error.strerror}). Give a file, or - for "
            "standard input"
        ) from error


def _server_row(adviser: Adviser) -> ServerRow:
    server = adviser.server
    files = tuple(_file_row(adviser, lookup, seen) for lookup, seen in server.lookups.items())
    kernels = tuple(
        _kernel_row(adviser, backend, seen.line) for backend, seen in _backends(server).items()
    )
    return ServerRow(
        engine=server.engine,
        version=server.version or None,
        line=server.line,
        model=adviser.model,
        split=tuple(adviser.parallel) if server.args else None,
        quantization=server.args.get("quantization"),
        kernels=kernels,
        by_rule=None if kernels else _by_rule(adviser),
        fixed_configs=server.fixed is not None,
        files=files,
        look=adviser.look(),
        all_opened=bool(files)
        and all(row.state == FileState.OPENED.value for row in files)
        and all(row.reads_files for row in kernels),
    )


def _file_row(adviser: Adviser, lookup: Lookup, seen: Seen) -> ServedFile:
    parts = adviser.engine.parse_name(lookup.name)
    advice = adviser.advice(lookup)
    return ServedFile(
        file=lookup.name,
        state=lookup.state.value,
        opened=lookup.opened,
        missed=tuple(lookup.missed),
        E=parts.experts if parts else None,
        N=parts.intermediate if parts else None,
        gpu=parts.device_name if parts else None,
        line=seen.line,
        processes=tuple(seen.processes),
        command=advice.command if advice else None,
        makes=advice.makes if advice else None,
        note=(advice.note or None) if advice else None,
        export=(advice.export or None) if advice else None,
    )


def _backends(server: Server) -> dict[Backend, Seen]:
    """Return vLLM's, or what SGLang's arguments say where that reads no files."""
    runner = server.args.get("moe_runner_backend", "")
    if server.engine != "sglang" or runner in _RUNNERS_WITH_FILES:
        return server.backends
    layers = "Fp4" if "fp4" in server.args.get("quantization", "") else "Unquantized"
    return {Backend(layers, runner): Seen(server.line)}


def _kernel_row(adviser: Adviser, backend: Backend, line: int) -> ServedKernel:
    is_vllm = adviser.engine.name == "vllm"
    return ServedKernel(
        layers=backend.layers if is_vllm else None,
        kernel=backend.name,
        reads_files=backend.reads_files,
        tuned_here=backend.is_tuned_here,
        flag=None if backend.reads_files else _flag(adviser, backend),
        command=None if backend.reads_files else adviser.tune(),
        export=None if backend.reads_files else export_line(adviser.engine),
        line=line,
    )


def _by_rule(adviser: Adviser) -> ServingRow | None:
    """Return what our rules say where the log does not: on the GPU that the files are named by."""
    server = adviser.server
    is_told = any(server.args.get(name, "auto") != "auto" for name in _TOLD)
    gpus = (adviser.engine.parse_name(lookup.name) for lookup in server.lookups)
    parts = next((each for each in gpus if each is not None), None)
    known = None if is_told or parts is None else adviser.problem()
    if known is None or parts is None:
        return None
    shape, problem = known
    asked = [(adviser.engine, problem, assumed(parts)[1])]
    return serving_rows(shape, asked, environment={})[0]


def _flag(adviser: Adviser, backend: Backend) -> str | None:
    """Return the flag that makes the engine take Triton in place of ``backend``, by the rules of
    the GPUs on which it takes that by itself; empty where none does, None where it is not known."""
    if not backend.is_tuned_here:
        return ""
    known = adviser.problem()
    if known is None:
        return None
    choices = [adviser.engine.kernel_choice(*known, target) for target in _TARGETS]
    same = {
        choice.flag
        for choice in choices
        if not choice.by_itself
        and any(_is_same(backend.name, name) for name in (choice.backend, choice.otherwise))
    }
    flags = same or {choice.flag for choice in choices if choice.flag}
    return flags.pop() if len(flags) == 1 else None


def _is_same(taken: str, rule: str) -> bool:
    """Compare an engine's name of a kernel with that of our rules."""
    one, other = (re.sub(r"[^a-z]|^vllm", "", name.casefold()) for name in (taken, rule))
    return bool(other) and (one.startswith(other) or other.startswith(one))
