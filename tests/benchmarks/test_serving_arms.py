"""benchmarks/serving/serve.py, with servers that stand in for an engine's."""

from __future__ import annotations

import json
import socket
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import serve

ARMS = ("as_it_comes", "tuned")
SERVER = """
import os, sys
from http.server import BaseHTTPRequestHandler, HTTPServer
print(sys.argv[2:], os.environ.get("FOLDER"), flush=True)
class Answer(BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
HTTPServer(("127.0.0.1", int(sys.argv[1])), Answer).serve_forever()
"""


class StandIn:
    """Implements Engine: a server that prints its flags and its folder of files."""

    folder_variable = "FOLDER"
    total = "total"

    def command(self, model: Path, port: int) -> list[str]:
        return [sys.executable, "-c", SERVER, str(port)]

    def bench(self, model: Path, port: int, load: Any, requests: int) -> dict[str, Any]:
        names = ("output_throughput", "median_ttft_ms", "median_tpot_ms", "duration")
        return dict.fromkeys((self.total, *names), 1.0) | {"completed": requests}


def _free_ports(count: int) -> int:
    """The first of as many ports in a row that are free."""
    for first in range(20000, 60000, 7):
        with ExitStack() as held:
            try:
                for port in range(first, first + count):
                    held.enter_context(socket.socket()).bind(("127.0.0.1", port))
            except OSError:
                continue
            return first
    raise AssertionError("no port is free")


@pytest.fixture
def words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    monkeypatch.setitem(serve.ENGINES, "vllm", StandIn)
    (tmp_path / "files").mkdir()
    flags = {"engine": "vllm", "model": "m", "load": "decode-1", "rounds": "1"}
    flags |= {"tuned": str(tmp_path / "files"), "output": str(tmp_path / "out")}
    flags |= {"port": str(_free_ports(2)), "start-timeout": "60"}
    return [word for name, value in flags.items() for word in (f"--{name}", value)]


@pytest.mark.parametrize("turns", [[], ["--one-at-a-time"]])
def test_an_arm_has_flags_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: list[str], turns: list[str]
) -> None:
    arms = ["--arm", "as_it_comes", "--arm", "tuned=--moe-backend triton --x='a b'", *turns]
    monkeypatch.setattr(sys, "argv", ["serve", *words, *arms, "--", "--tp", "8"])
    serve.main()
    by_itself, tuned = ((tmp_path / "out" / f"{arm}.log").read_text() for arm in ARMS)
    assert by_itself.startswith("['--tp', '8'] None\n")
    flags = "['--tp', '8', '--moe-backend', 'triton', '--x=a b']"
    assert tuned.startswith(f"{flags} {(tmp_path / 'files').resolve()}\n")
    rows = (tmp_path / "out" / "results.jsonl").read_text().splitlines()
    assert [json.loads(row)["arm"] for row in rows] == list(ARMS)


@pytest.mark.parametrize(
    ("arms", "reason"),
    [
        (["tuned", "tuned=--moe-backend triton"], "an arm is there twice"),
        (["triton"], "'triton' is no arm; choose from as_it_comes"),
    ],
)
def test_arms_that_cannot_be_are_refused(
    capsys: pytest.CaptureFixture[str], words: list[str], arms: list[str], reason: str
) -> None:
    with pytest.raises(SystemExit):
        serve._flags([*words, *(word for arm in arms for word in ("--arm", arm))])
    assert reason in capsys.readouterr().err
