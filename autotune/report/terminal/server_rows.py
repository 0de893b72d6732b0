"""What a server's log says of tuned files, for people: its files, and what to run."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from rich.console import RenderableType

from autotune.documents.server_log import ServedFile, ServedKernel, ServerLogDocument, ServerRow
from autotune.engines import ENGINES
from autotune.engines.kernel_choice import BOTH_WAYS
from autotune.engines.served import FileState

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
        yield from map(_file_words, server.files)
        yield from _kernel_words(server)
        yield from _what_to_run(server)


def _title(server: ServerRow) -> str:
    name = ENGINES[server.engine].title
    version = f" {server.version}" if server.version else ""
    model = server.model or "a model that no line names"
    split = f" {' '.join(server.split)}" if server.split else ""
    return f"{name}{version} from line {server.line}: {model}{split}"


def _file_words(row: ServedFile) -> str:
    """Return lines of their own for what is long: a name or a folder is never cut in two."""
    processes = f", {', '.join(row.processes)}" if row.processes else ""
    lines = [row.file, f"  {_STATES[row.state]} (line {row.line}{processes}), in"]
    return "\n".join([*lines, *(f"  {Path(path).parent}" for path in _paths(row))])


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
            no_flag = ", and no flag makes it take Triton there" if row.flag == "" else ""
            yield f"{taken}: it reads no tuned file{no_flag}"
    if server.by_rule and not server.by_rule.by_itself:
        yield (
            "no line names the kernel. Triton's alone looks for files, but by our rules "
            f"{server.by_rule.words}"
        )
    if server.fixed_configs:
        yield "deterministic inference is on: SGLang opens no tuned file then"
    if not server.files and not server.kernels and not server.fixed_configs:
        yield f"{_NOTHING[server.engine]}. What it takes by itself where it serves:"
        yield f"  {server.look}"


def _what_to_run(server: ServerRow) -> Iterator[str]:
    """Yield each command once, for all the files that it makes, with the flag for Triton."""
    engine = ENGINES[server.engine].title
    missing = [row for row in server.files if row.command]
    others = [row for row in _others(server) if row.flag != ""]
    flags = _flag_lines(server, others)
    for command in dict.fromkeys(row.command for row in missing):
        rows = [row for row in missing if row.command == command]
        first = rows[0]
        names = " and ".join(dict.fromkeys(row.file for row in rows))
        lines = [f"to make {names}, on {first.gpu} and beside the server's {engine}:"]
        lines += [f"  {command}"]
        lines += [f"  {first.export or 'the server looks there already: start it again'}"]
        lines += flags
        lines += [f"  {note}" for note in dict.fromkeys(row.note for row in rows) if note]
        yield "\n".join(lines)
    if others and not missing:
        row = others[0]
        words = [f"to make files for Triton, on the server's GPU and beside its {engine}:"]
        yield "\n".join([*words, f"  {row.command}", f"  {row.export}", *flags])
    if others:
        yield BOTH_WAYS
    unread = [row for row in server.files if row.E is None]
    yield from (f"{row.file} is no file of Triton's MoE kernel" for row in unread)
    if missing and server.engine == "sglang":
        yield "run it with the server's Triton: SGLang has a folder for each version"


def _others(server: ServerRow) -> list[ServedKernel]:
    """Return the kernels that were taken in place of Triton's."""
    return [row for row in server.kernels if row.tuned_here and not row.reads_files]


def _flag_lines(server: ServerRow, others: Sequence[ServedKernel]) -> list[str]:
    """Return how to serve with Triton, where the server takes ``others``, or would by our rules."""
    flags = [row.flag or "Triton (docs/serving.md says how)" for row in others]
    rule = server.by_rule
    if rule and not rule.by_itself and rule.flag:
        flags.append(rule.flag)
    return [f"  serve with {flag}" for flag in dict.fromkeys(flags)]
