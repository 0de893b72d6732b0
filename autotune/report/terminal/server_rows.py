"""What a server's log says of tuned files, for people: a table for each server, and what to run."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

from rich.console import RenderableType
from rich.table import Table

from autotune.documents.server_log import ServedFile, ServedKernel, ServerLogDocument, ServerRow
from autotune.engines import ENGINES
from autotune.engines.served import FileState
from autotune.report.terminal.tables import table_of

_STATES = {
    FileState.OPENED.value: "opened",
    FileState.OTHER_TRITON.value: "another Triton's",
    FileState.UP_FILE.value: "missed: up's configs",
    FileState.MISSED.value: "missed: default",
}
_NOTHING = {
    "vllm": (
        "no line says that a tuned file was looked for: the log ends before the first run of the "
        "model, its level hides it (opened files are said at INFO), the model has no experts, or "
        "VLLM_BATCH_INVARIANT is set"
    ),
    "sglang": (
        "no line says that a tuned file was looked for: the log ends before the first batch, its "
        "level hides it (opened files are said at info), the model has no experts, or its "
        "kernel is not Triton's"
    ),
}


def server_views(data: ServerLogDocument) -> Iterator[RenderableType]:
    """Yield what stands on the screen, server by server."""
    if not data.servers:
        yield (
            f"{data.log or 'standard input'}: none of its {data.lines} lines is vLLM's or SGLang's "
            "about how it serves or about MoE configs. Give the server's own output, from its start"
        )
    for server in data.servers:
        yield _title(server)
        if server.files:
            yield _files_table(server.files)
        yield from _kernel_words(server)
        yield from _what_to_run(server)


def _title(server: ServerRow) -> str:
    name = ENGINES[server.engine].title
    version = f" {server.version}" if server.version else ""
    model = server.model or "a model that no line names"
    split = f" {' '.join(server.split)}" if server.split else ""
    return f"{name}{version} from line {server.line}: {model}{split}"


def _files_table(rows: Iterable[ServedFile]) -> Table:
    table = table_of("file", "state", "in", "line", "said by", numbers=("line",))
    for column in table.columns:
        column.overflow = "fold"  # a path is not shortened
    for row in rows:
        folders = "\n".join(str(Path(path).parent) for path in _paths(row))
        said_by = ", ".join(row.processes)
        table.add_row(row.file, _STATES[row.state], folders, str(row.line), said_by)
    return table


def _paths(row: ServedFile) -> tuple[str, ...]:
    return (row.opened,) if row.opened else row.missed


def _kernel_words(server: ServerRow) -> Iterator[str]:
    title = ENGINES[server.engine].title
    for row in server.kernels:
        layers = f" for {row.layers} layers" if row.layers else ""
        taken = f"{title} took {row.kernel}{layers} (line {row.line})"
        if row.reads_files:
            yield f"{taken}: it reads tuned files"
        elif not row.tuned_here:
            yield f"{taken}: it reads no tuned file, and this package does not tune such layers"
        else:
            yield f"{taken}: it reads no tuned file. {_way_to_triton(row)}"
    if server.fixed_configs:
        yield "deterministic inference is on: SGLang opens no tuned file then"
    if not server.files and not server.kernels and not server.fixed_configs:
        yield f"{_NOTHING[server.engine]}. What it takes by itself where it serves:"
        yield f"  {server.look}"


def _way_to_triton(row: ServedKernel) -> str:
    if row.flag == "":
        return "No flag makes it take Triton there"
    flag = f"with {row.flag}" if row.flag else "with Triton (docs/serving.md says how)"
    return f"Serve {flag}, with files of\n  {row.command}"


def _what_to_run(server: ServerRow) -> Iterator[str]:
    """Yield each command once, for all the files that it makes."""
    missing = [row for row in server.files if row.command]
    for command in dict.fromkeys(row.command for row in missing):
        rows = [row for row in missing if row.command == command]
        first = rows[0]
        names = " and ".join(dict.fromkeys(row.file for row in rows))
        engine = ENGINES[server.engine].title
        lines = [f"to make {names}, on {first.gpu} and beside the server's {engine}:"]
        lines += [f"  {command}"]
        lines += [f"  {first.export or 'the server looks there already: start it again'}"]
        lines += [f"  {note}" for note in dict.fromkeys(row.note for row in rows) if note]
        yield "\n".join(lines)
    others = [row for row in server.files if row.E is None]
    yield from (f"{row.file} is no file of Triton's MoE kernel" for row in others)
    if missing and server.engine == "sglang":
        yield "run it with the server's Triton: SGLang has a folder for each version"
