"""Serves one model in several ways and times each by the engine's own benchmark, interleaved.

python benchmarks/serving/serve.py --engine vllm --model FOLDER --arm as_it_comes --arm tuned \
    --tuned FILES --output results -- [flags of the server]

An arm is a server of its own; flags that it alone has stand after its name, as in ``--arm
"tuned=--moe-backend triton"``. By default all are up at once, on one GPU, and take turns load by
load, so that what changes on the machine meets all of them; ``--one-at-a-time`` is for models of
which two do not fit, and starts each arm anew in every round, in turning order. Each server's log
and each benchmark's numbers (``results.jsonl``) lie in the output folder; ``table.py`` reads them.

Prompts are random tokens, the same for every arm; answers have the given length; prefix caching
is off. Before the first round each load is run once in short, which is not counted: Triton compiles
what no graph held.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shlex
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from engines import ENGINES, timed

ARMS = {
    "as_it_comes": "the engine by itself, with the files that it ships",
    "no_files": "the config that it launches for want of a file",
    "tuned": "with the files in --tuned",
    "deep_gemm": "vLLM with VLLM_USE_DEEP_GEMM=1: another kernel, for block fp8",
}


@dataclass(frozen=True)
class Arm:
    """One way to serve."""

    name: str
    flags: tuple[str, ...] = ()
    """The server's, beside those that all arms have."""

    @classmethod
    def of(cls, text: str) -> Arm:
        """Read ``NAME`` or ``NAME=FLAGS``. Raises ArgumentTypeError for what is no arm."""
        name, _, flags = text.partition("=")
        if name not in ARMS:
            raise argparse.ArgumentTypeError(f"{name!r} is no arm; choose from {', '.join(ARMS)}")
        return cls(name, tuple(shlex.split(flags)))


@dataclass(frozen=True)
class Load:
    """One way to load the server: requests of ``prompt`` and ``answer`` tokens, ``at_once``."""

    name: str
    prompt: int
    answer: int
    at_once: int
    requests: int


LOADS = {
    load.name: load
    for load in (
        Load("decode-1", 128, 512, 1, 1),
        Load("decode-16", 128, 512, 16, 16),
        Load("decode-64", 128, 512, 64, 64),
        Load("decode-256", 128, 512, 256, 256),
        Load("prefill-1", 4096, 32, 1, 6),
        Load("prefill-16", 4096, 32, 16, 48),
        Load("prefill-64", 4096, 32, 64, 96),
        Load("prefill-256", 4096, 32, 256, 256),
    )
}


class Server:
    """The server of one arm; its log is ``<output>/<arm>.log``."""

    def __init__(self, flags: argparse.Namespace, arm: Arm, port: int) -> None:
        self.arm, self.port, self.log = arm.name, port, flags.output / f"{arm.name}.log"
        command = [*flags.engine.command(flags.model, port), *flags.server_flags, *arm.flags]
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                command,
                stdout=log,
                stderr=log,
                env=_environment(flags, arm.name),
                start_new_session=True,
            )

    def wait(self, seconds: float) -> None:
        """Return once it answers. Raises RuntimeError when it ended, or did not come in time."""
        until = time.monotonic() + seconds
        while self._process.poll() is None and time.monotonic() < until:
            with contextlib.suppress(OSError):
                urllib.request.urlopen(f"http://127.0.0.1:{self.port}/health", timeout=5).close()
                return
            time.sleep(0.5)
        raise RuntimeError(f"{self.arm}: no server; its log is {self.log}")

    def stop(self) -> None:
        """End it and what it started."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, 15)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(20)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, 9)
        self._process.wait()


def _environment(flags: argparse.Namespace, arm: str) -> dict[str, str]:
    variable = flags.engine.folder_variable
    environment = {k: v for k, v in os.environ.items() if k != variable}
    if arm == "tuned":
        environment[variable] = str(flags.tuned.resolve())
    elif arm == "no_files":
        environment[variable] = str(_files_without_entries(flags))
    elif arm == "deep_gemm":
        environment["VLLM_USE_DEEP_GEMM"] = environment["VLLM_MOE_USE_DEEP_GEMM"] = "1"
    return environment


def _files_without_entries(flags: argparse.Namespace) -> Path:
    """Return a folder of files that have the names of the tuned ones, and no entry: the
    engine opens them in place of its own and then launches its default."""
    folder = (flags.output / "no_files").resolve()
    for path in flags.tuned.rglob("*.json"):
        file = folder / path.relative_to(flags.tuned)
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("{}\n")
    return folder


def main() -> None:
    flags = _flags()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that servers are stopped
    flags.output.mkdir(parents=True, exist_ok=True)
    rounds = at_once(flags) if not flags.one_at_a_time else one_at_a_time(flags)
    with (flags.output / "results.jsonl").open("a") as out:
        for row in rounds:
            print(json.dumps(row), file=out, flush=True)
            print(json.dumps(row), flush=True)


def at_once(flags: argparse.Namespace) -> Iterator[dict[str, object]]:
    """Yield a row for each round, load and arm; servers side by side."""
    servers = []
    try:
        for i, arm in enumerate(flags.arms):
            servers.append(Server(flags, arm, flags.port + i))
        for server in servers:
            server.wait(flags.start_timeout)
        _warm_up(flags, servers)
        for turn in range(flags.rounds):
            for load in flags.loads:
                for server in _turned(servers, turn):
                    yield _row(flags, server, load, turn)
            if time.monotonic() > flags.until:
                return
    finally:
        for server in servers:
            server.stop()


def one_at_a_time(flags: argparse.Namespace) -> Iterator[dict[str, object]]:
    """Yield a row for each round, arm and load; one server after the other."""
    for turn in range(flags.rounds):
        for arm in _turned(flags.arms, turn):
            server = Server(flags, arm, flags.port)
            try:
                server.wait(flags.start_timeout)
                _warm_up(flags, [server])
                for load in flags.loads:
                    yield _row(flags, server, load, turn)
            finally:
                server.stop()
            if time.monotonic() > flags.until:
                return


def _warm_up(flags: argparse.Namespace, servers: list[Server]) -> None:
    for server in servers:
        for load in flags.loads:
            short = replace(load, answer=min(load.answer, 64))
            timed(flags.engine, flags.model, server.port, short, load.requests)


def _row(flags: argparse.Namespace, server: Server, load: Load, turn: int) -> dict[str, object]:
    measured = timed(flags.engine, flags.model, server.port, load, load.requests)
    return {"arm": server.arm, "round": turn, **asdict(load), **measured, "at": round(time.time())}


def _turned(arms: list[Any], turn: int) -> list[Any]:
    """Return the arms in this round's order: each comes first, and each second, equally often."""
    start = (turn // 2) % len(arms)
    order = arms[start:] + arms[:start]
    return order[::-1] if turn % 2 else order


def _flags(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--engine", choices=ENGINES, required=True)
    parser.add_argument("--model", type=Path, required=True, help="a folder by model.py, or any")
    parser.add_argument(
        "--arm",
        dest="arms",
        action="append",
        type=Arm.of,
        required=True,
        metavar="NAME[=FLAGS]",
        help=f"one of {', '.join(ARMS)}, and flags that its server alone has",
    )
    parser.add_argument("--tuned", type=Path, help="the folder with tuned files")
    parser.add_argument("--load", dest="loads", nargs="+", choices=LOADS, default=list(LOADS))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--minutes", type=float, default=60, help="begin no round after these")
    parser.add_argument("--one-at-a-time", action="store_true")
    parser.add_argument("--port", type=int, default=8100, help="the first arm's")
    parser.add_argument("--start-timeout", type=float, default=300, help="s for a server to answer")
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("server_flags", nargs="*", help="after --: flags of the server")
    flags = parser.parse_args(argv)
    names = [arm.name for arm in flags.arms]
    if len(set(names)) < len(names):
        parser.error("an arm is there twice: its log and its results have its name")
    if {"tuned", "no_files"} & set(names) and not (flags.tuned and flags.tuned.is_dir()):
        parser.error("--arm tuned and no_files need --tuned FOLDER, with the tuned files")
    flags.engine = ENGINES[flags.engine]()
    flags.loads = [LOADS[name] for name in flags.loads]
    flags.until = time.monotonic() + 60 * flags.minutes
    return flags


if __name__ == "__main__":
    main()
