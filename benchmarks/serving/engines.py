"""How each engine is started, given tuned files and timed by the benchmark that it ships."""

from __future__ import annotations

import asyncio
import contextlib
import io
import json
import sys
import tempfile
from pathlib import Path
from typing import Any, Protocol


class Engine(Protocol):
    """One engine. A benchmark's result has ``completed``, ``duration``, ``output_throughput``,
    ``median_ttft_ms`` and ``median_tpot_ms`` in both; the rate of all tokens under ``total``."""

    folder_variable: str
    total: str

    def command(self, model: Path, port: int) -> list[str]:
        """Return what starts a server of random weights without a prefix cache."""

    def bench(self, model: Path, port: int, load: Any, requests: int) -> dict[str, Any]:
        """Time ``requests`` of a load."""


class Vllm:
    """``vllm serve`` and ``vllm bench serve``, whose import is paid once. Implements Engine."""

    folder_variable = "VLLM_TUNED_CONFIG_FOLDER"
    total = "total_token_throughput"

    def __init__(self) -> None:
        from vllm.benchmarks import serve
        from vllm.utils.argparse_utils import FlexibleArgumentParser

        self._serve = serve
        self._parser = FlexibleArgumentParser()
        serve.add_cli_args(self._parser)

    def command(self, model: Path, port: int) -> list[str]:
        start = [sys.executable, "-m", "vllm.entrypoints.cli.main", "serve", str(model)]
        words = ["--load-format", "dummy", "--port", str(port), "--max-model-len", "8192"]
        return [*start, *words, "--no-enable-prefix-caching"]

    def bench(self, model: Path, port: int, load: Any, requests: int) -> dict[str, Any]:
        words = _words(model, port, load, requests, "random")
        flags = self._parser.parse_args([*words, "--ignore-eos"])
        return asyncio.run(self._serve.main_async(flags))


class Sglang:
    """``sglang.launch_server`` and ``sglang.benchmark.serving``. Implements Engine."""

    folder_variable = "SGLANG_MOE_CONFIG_DIR"
    total = "total_throughput"

    def command(self, model: Path, port: int) -> list[str]:
        start = [sys.executable, "-m", "sglang.launch_server", "--model-path", str(model)]
        words = ["--load-format", "dummy", "--port", str(port), "--context-length", "8192"]
        return [*start, *words, "--disable-radix-cache"]

    def bench(self, model: Path, port: int, load: Any, requests: int) -> dict[str, Any]:
        from sglang.benchmark import serving

        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder, "result.jsonl")
            words = _words(model, port, load, requests, "random-ids")
            more = ["--backend", "sglang", "--tokenize-prompt", "--random-range-ratio", "1"]
            more += ["--warmup-requests", "0"]  # serve.py warms up
            argv, sys.argv = sys.argv, ["serving", *words, *more, "--output-file", str(file)]
            try:
                serving.cli_main()
            finally:
                sys.argv = argv
            result: dict[str, Any] = json.loads(file.read_text().splitlines()[-1])
            return result


ENGINES: dict[str, type[Vllm] | type[Sglang]] = {"vllm": Vllm, "sglang": Sglang}


def timed(engine: Engine, model: Path, port: int, load: Any, requests: int) -> dict[str, float]:
    """Return a load's rates and times. Raises RuntimeError where a request was not answered."""
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        result = engine.bench(model, port, load, requests)
    if result["completed"] != requests:
        done = f"{result['completed']} of {requests} requests answered"
        raise RuntimeError(f"{load.name}: {done}: {printed.getvalue()[-1000:]}")
    return {
        "tokens_per_second": result[engine.total],
        "output_tokens_per_second": result["output_throughput"],
        "ttft_ms": result["median_ttft_ms"],
        "tpot_ms": result["median_tpot_ms"],
        "seconds": result["duration"],
    }


def _words(model: Path, port: int, load: Any, requests: int, dataset: str) -> list[str]:
    """Return the flags that both benchmarks have."""
    values = {
        "model": model,
        "tokenizer": model,
        "host": "127.0.0.1",
        "port": port,
        "dataset-name": dataset,
        "random-input-len": load.prompt,
        "random-output-len": load.answer,
        "num-prompts": requests,
        "max-concurrency": load.at_once,
        "seed": 0,
    }
    words = [word for name, value in values.items() for word in (f"--{name}", str(value))]
    return [*words, "--disable-tqdm"]
