"""The steps that a server ran: how many tokens, and for how long.

Read from ``steps.csv`` of the plugin in examples/record_topk_ids, or from a server's log:

vLLM 0.33.0 with ``--enable-logging-iteration-details`` writes a line for each step
    (``_log_iteration_details``, v1/metrics/loggers.py:185): the tokens that were scheduled, drafts
    among them, and how long the engine waited for the result.
SGLang 0.5.23 writes a line for each prefill step and for every 40th decode step
    (``report_prefill_stats``, ``report_decode_stats``,
    srt/managers/scheduler_components/metrics_reporter.py): the tokens, or the requests that run
    now, and tokens a second since its last line of the kind. What else came between counts as
    that time, too; so no step takes longer here than the median of those of its kind and size.

Both give tokens before padding; the sizes of CUDA graphs are named once, when the server starts.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import BinaryIO

from autotune.engines.server_log import LogLine, log_lines
from autotune.errors import UsageError
from autotune.spec.ranges import TOKENS, Range

HEADER = "tokens,seconds"
_SECONDS = Range(0, 1_000_000, is_real=True)
_WHOLE, _REAL = "[0-9]{1,15}", r"[0-9]{1,15}(?:\.[0-9]{1,30})?"
_ITERATION = re.compile(
    rf"Iteration\(\d+\): \d+ context requests, ({_WHOLE}) context tokens, "
    rf"\d+ generation requests, ({_WHOLE}) generation tokens, "
    rf"iteration elapsed time: ({_REAL}) ms( \(dummy\))?"
)
_BATCH = re.compile(r"(Prefill|Decode) batch(?: \[\d+\])?, (.*)")
_GRAPHS = re.compile(
    r"'cudagraph_capture_sizes': \[([0-9, ]*)\]"  # vLLM's config, in tokens
    r"|Capture target (?:decode|verify) .* end\. bs=\[([0-9, ]*)\]"  # SGLang's, in requests
)
_ARGUMENT = re.compile(
    r"'?(decode_log_interval|speculative_num_draft_tokens)'?[=:] ?(" + _WHOLE + ")"
)
_DECODE_INTERVAL = 40
"""SGLang's default."""
_HINT = (
    "vLLM writes lines of its steps with --enable-logging-iteration-details, SGLang by itself "
    f"('Decode batch'); the plugin of docs/routing.md writes {HEADER} for both"
)


@dataclass(frozen=True, slots=True)
class Steps:
    """What a server ran."""

    seconds: Mapping[int, float]
    """Tokens of a step → seconds that all steps with so many took."""
    count: int
    source: str
    """For people: who says so."""


@dataclass(frozen=True, slots=True)
class _Row:
    tokens: int
    seconds: float
    steps: int = 1
    kind: str = ""
    """What SGLang calls the step; its seconds may be of other steps, too."""


def read_steps(path: Path) -> Steps:
    """Read a file in any of the forms. Raises UsageError for another, and for none."""
    name = f"--batch-size auto:{path}"
    try:
        with path.open("rb") as stream:
            head = stream.readline(4096)
            stream.seek(0)
            if b"\0" in head or head.startswith(b"\x1f\x8b"):
                raise UsageError(f"{name} is no text. Give {HEADER} or a server's log, unpacked")
            is_table = head.strip().decode(errors="replace") == HEADER
            rows = list(_of_table(stream, name) if is_table else _of_log(stream, name))
    except OSError as error:
        raise UsageError(f"{name} cannot be read: {error.strerror or error}. {_HINT}") from error
    seconds: defaultdict[int, float] = defaultdict(float)
    for row in rows:
        seconds[row.tokens] += row.seconds * row.steps
    if not sum(seconds.values()):
        raise UsageError(f"{name} has no step that took time. {_HINT}")
    log = f"{'SGLang' if rows[0].kind else 'vLLM'}'s log"
    return Steps(seconds, sum(row.steps for row in rows), "the plugin" if is_table else log)


def _of_table(stream: BinaryIO, name: str) -> Iterator[_Row]:
    for number, raw in enumerate(stream, 1):
        text = raw.decode(errors="replace").strip()
        if text in ("", HEADER):  # files may be put together
            continue
        row = _row_of(text)
        if row is not None:
            yield row
        elif raw.endswith(b"\n"):  # else a server was stopped in the middle of its last line
            raise UsageError(
                f"{name}, line {number}: {text!r:.60}; each line is {HEADER}, as 64,0.0123: "
                f"tokens are {TOKENS}, seconds {_SECONDS}"
            )


def _row_of(text: str) -> _Row | None:
    first, _, second = text.partition(",")
    try:
        row = _Row(int(first), float(second))
    except ValueError:
        return None
    return row if row.tokens in TOKENS and row.seconds in _SECONDS else None


def _of_log(stream: BinaryIO, name: str) -> Iterable[_Row]:
    log = _Log(name)
    for line in log_lines(stream, name):
        log.read(line)
    return log.usual()


class _Log:
    """What a log has said so far. A server's arguments and graphs come before its steps."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._rows: list[_Row] = []
        self._graphs: list[int] = []
        self._is_prefill_padded = True
        self._arguments: dict[str, int] = {}

    def read(self, line: LogLine) -> None:
        """Take in one line; most say nothing of steps."""
        text = line.message
        if match := _ITERATION.search(text):
            self._iteration(match)
        elif match := _BATCH.match(text):
            self._batch(match[1], match[2])
        elif match := _GRAPHS.search(text):
            sizes = re.findall(_WHOLE, match[1] or match[2] or "")
            self._graphs = sorted(size for size in map(int, sizes) if size in TOKENS)
            self._is_prefill_padded = "CUDAGraphMode.FULL_DECODE_ONLY" not in text
        elif "server_args=" in text:
            self._arguments = {key: int(value) for key, value in _ARGUMENT.findall(text)}

    def usual(self) -> list[_Row]:
        """Return the steps, none with longer seconds than is usual where these may be others'."""
        kinds: defaultdict[tuple[str, int], list[float]] = defaultdict(list)
        for row in self._rows:
            kinds[row.kind, row.tokens.bit_length()].append(row.seconds / row.tokens)
        most = {kind: median(each) for kind, each in kinds.items() if kind[0]}
        return [
            _Row(row.tokens, min(row.seconds, most[place] * row.tokens), row.steps, row.kind)
            if (place := (row.kind, row.tokens.bit_length())) in most
            else row
            for row in self._rows
        ]

    def _iteration(self, match: re.Match[str]) -> None:
        prompt, tokens, is_dummy = int(match[1]), int(match[1]) + int(match[2]), match[4]
        if tokens and not is_dummy:
            is_padded = not prompt or self._is_prefill_padded
            self._add(self._padded(tokens) if is_padded else tokens, float(match[3]) / 1e3)

    def _batch(self, kind: str, text: str) -> None:
        if kind == "Prefill":
            tokens = int(_field(text, "#new-token") + _field(text, "#replay-token"))
            rate = _field(text, r"input throughput \(token/s\)")
            if tokens and rate:
                self._add(tokens, tokens / rate, kind=kind)
            return
        requests, rate = (
            int(_field(text, "#running-req")),
            _field(text, r"gen throughput \(token/s\)"),
        )
        if not requests or not rate:
            return
        kept = _field(text, "accept len")
        padded = self._padded(requests) if "graph: True" in text else requests
        steps = self._arguments.get("decode_log_interval", _DECODE_INTERVAL)
        seconds = requests * (kept or 1) / rate
        self._add(padded * (self._drafts() if kept else 1), seconds, steps, kind)

    def _drafts(self) -> int:
        """Tokens of a request that a step with speculative decoding verifies."""
        drafts = self._arguments.get("speculative_num_draft_tokens")
        if drafts is None:
            raise UsageError(
                f"{self._name}: its steps verify drafts ('accept len'), and how many a request has "
                "stands in the line 'server_args=' alone. Give the log from the server's start"
            )
        return drafts

    def _padded(self, size: int) -> int:
        """Return the size of the smallest CUDA graph for it, where there is one."""
        place = bisect_left(self._graphs, size)
        return self._graphs[place] if place < len(self._graphs) else size

    def _add(self, tokens: int, seconds: float, steps: int = 1, kind: str = "") -> None:
        if tokens in TOKENS and seconds in _SECONDS:
            self._rows.append(_Row(tokens, seconds, steps, kind))


def _field(text: str, name: str) -> float:
    """Return the number behind a field's name; 0 where it is not there."""
    match = re.search(rf"{name}: ({_REAL})", text)
    return float(match[1]) if match else 0.0
