"""The product on a GPU as a user runs it: tune all batch sizes of a model from an empty compile
cache, again with a warm one, then our file against the engines' shipped ones, in turns.

    python benchmarks/gpu/real.py --out DIR --engine-configs ../shared/engine_configs
    python benchmarks/gpu/real.py --out DIR --cases qwen --device estimate:NVIDIA_H200   # rehearsal

A step whose result lies in DIR is not done again: an interrupted campaign goes on. Each case
leaves cold.log, warm.log, bench_ENGINE.json, its tuned files, and summary.json. With ``--steps cold
bench`` there is no second run.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

STEPS = ("cold", "warm", "bench")
ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Case:
    """A model as it is served, and for each engine whose file is tried the shipped files that go
    against it, newest first."""

    name: str
    flags: tuple[str, ...]
    shipped: dict[str, tuple[str, ...]]


CASES = (
    Case(
        "qwen",
        ("--model", "Qwen/Qwen3-30B-A3B", "--tp-size", "1"),
        {
            "sglang": (
                "sglang/configs/triton_3_6_0/E=128,N=768,device_name=NVIDIA_H200.json",
                "vllm/E=128,N=768,device_name=NVIDIA_H200.json",
            )
        },
    ),
    Case(
        "mixtral",
        ("--model", "mistralai/Mixtral-8x7B-Instruct-v0.1", "--tp-size", "2"),
        {
            "sglang": (
                "sglang/configs/triton_3_1_0/E=8,N=7168,device_name=NVIDIA_H200.json",
                "vllm/E=8,N=7168,device_name=NVIDIA_H200.json",
            )
        },
    ),
    Case(
        "deepseek",  # SGLang fuses the shared expert, vLLM does not: two problems
        ("--model", "deepseek-ai/DeepSeek-V3", "--tp-size", "8"),
        {
            "sglang": (
                "sglang/configs/triton_3_5_1/E=257,N=256,device_name=NVIDIA_H200,dtype=fp8_w8a8,"
                "block_shape=[128, 128].json",  # its _down file is for separate kernels
                "sglang/configs/triton_3_3_1/E=257,N=256,device_name=NVIDIA_H200,dtype=fp8_w8a8,"
                "block_shape=[128, 128].json",
            ),
            "vllm": (
                "vllm/E=256,N=256,device_name=NVIDIA_H200,dtype=fp8_w8a8,block_shape=[128,128].json",
            ),
        },
    ),
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--cases", nargs="+", choices=[case.name for case in CASES])
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--engine-configs", type=Path)
    parser.add_argument("--steps", nargs="+", choices=STEPS, default=STEPS)
    parser.add_argument("--more", nargs=argparse.REMAINDER, default=[], help="further run flags")
    args = parser.parse_args()
    for case in CASES:
        if not args.cases or case.name in args.cases:
            Campaign(case, args.out.resolve() / case.name, args).run()


class Campaign:
    """One case, step by step."""

    def __init__(self, case: Case, folder: Path, args: argparse.Namespace) -> None:
        self._case, self._folder, self._args = case, folder, args
        folder.mkdir(parents=True, exist_ok=True)
        self._caches = folder / "caches"

    def run(self) -> None:
        steps: dict[str, Callable[[], dict[str, object]]] = {
            "cold": lambda: {"cold_s": self._tune("cold")},
            "warm": lambda: {"warm_s": self._tune("warm")},
            "bench": lambda: {e: _against(self._bench(e)) for e in self._case.shipped},
        }
        summary: dict[str, object] = {}
        for step in self._args.steps:
            summary |= steps[step]()
        (self._folder / "summary.json").write_text(json.dumps(summary, indent=1) + "\n")
        shutil.rmtree(self._caches, ignore_errors=True)
        print(self._case.name, json.dumps(summary, indent=1))

    def _tune(self, name: str) -> float:
        """Wall seconds of a ``run`` into a storage of its own; both share the compile cache."""
        log, result = self._folder / f"{name}.log", self._folder / f"{name}.json"
        if result.exists():
            return float(json.loads(result.read_text())["wall_s"])
        words = [
            *("run", *self._case.flags, "--device", self._args.device, "--json"),
            *("--storage", str(self._folder / f"{name}.db")),
            *("--output-dir", str(self._folder / name)),
            *self._args.more,
        ]
        began = time.monotonic()
        done = self._autotune(words)
        wall = round(time.monotonic() - began, 1)
        log.write_text(done.stderr)
        answer = {"command": " ".join(words), "wall_s": wall, **json.loads(done.stdout)}
        result.write_text(json.dumps(answer, indent=1) + "\n")
        return wall

    def _bench(self, engine: str) -> list[dict[str, Any]]:
        """The first file is ours."""
        path = self._folder / f"bench_{engine}.json"
        if not path.exists():
            files = sorted((self._folder / "cold").rglob(f"{engine}/**/E=*.json"))
            if self._args.engine_configs is not None:
                shipped = (self._args.engine_configs / name for name in self._case.shipped[engine])
                files += [file for file in shipped if file.exists()]
            words = ["bench", *self._case.flags, "--engine", engine, "--json"]
            words += ["--device", self._args.device, "--config-file", *map(str, files)]
            path.write_text(self._autotune(words, may_fail=True).stdout)
        rows: list[dict[str, Any]] = json.loads(path.read_text())["rows"]
        return rows

    def _autotune(
        self, words: Sequence[str], *, may_fail: bool = False
    ) -> subprocess.CompletedProcess[str]:
        environment = {
            **os.environ,
            "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]),
            "TRITON_CACHE_DIR": str(self._caches / "triton"),
            "XDG_CACHE_HOME": str(self._caches),
        }
        command = [sys.executable, "-m", "autotune", *words]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        if done.returncode and not may_fail:
            raise SystemExit(f"{' '.join(command)} ended with {done.returncode}:\n{done.stderr}")
        return done


def _against(rows: Sequence[dict[str, Any]]) -> dict[str, object]:
    """Time of each further file's config over the first one's (ours), paired by routing: in the
    mean, and how often it is slower, even or faster beyond the noise."""
    found: dict[str, object] = {}
    for number in sorted({row["file"] for row in rows if row["file"]} - {1}):
        others = [row for row in rows if row["file"] == number]
        ratios = [row["ratio"] for row in others if row["ratio"] is not None]
        found[f"file {number}"] = {
            "geometric_mean": round(statistics.geometric_mean(ratios), 4) if ratios else None,
            "verdicts": dict(Counter(row["verdict"] for row in others)),
        }
    return found


if __name__ == "__main__":
    main()
