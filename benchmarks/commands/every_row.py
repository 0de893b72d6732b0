"""Runs the rows of the engines' own tuning scripts on an estimated GPU: are the files there, under
the right names, and does ``check`` accept each of them?

    python benchmarks/commands/every_row.py            # about two minutes on two cores
    python benchmarks/commands/every_row.py separate   # only rows with this word
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

MIXTRAL = "--model mistralai/Mixtral-8x7B-Instruct-v0.1"
QWEN2 = "--model Qwen/Qwen2-57B-A14B-Instruct"
DEEPSEEK = "--model deepseek-ai/DeepSeek-V3-0324"
SMALL = "--device estimate:NVIDIA_H200 --batch-size 64 --trials 10"
H200 = "device_name=NVIDIA_H200"


@dataclass(frozen=True)
class Row:
    """A command, and the names of the files that it must write: SGLang's, then vLLM's."""

    words: str
    sglang: tuple[str, ...]
    vllm: tuple[str, ...]
    more: str = SMALL


def _down(name: str) -> tuple[str, str]:
    return f"{name}.json", f"{name}_down.json"


FP8, BLOCKS = "dtype=fp8_w8a8", "block_shape=[128,128]"
ROWS = (
    Row(f"{MIXTRAL} --tp-size 2", (f"E=8,N=7168,{H200}.json",), (f"E=8,N=7168,{H200}.json",)),
    Row(
        f"{QWEN2} --dtype fp8_w8a8 --tp-size 4",
        (f"E=64,N=640,{H200},{FP8}.json",),
        (f"E=64,N=640,{H200},{FP8}.json",),
    ),
    Row(
        f"{DEEPSEEK} --dtype fp8_w8a8 --tp-size 8",
        (f"E=257,N=256,{H200},{FP8},block_shape=[128, 128].json",),
        (f"E=256,N=256,{H200},{FP8},{BLOCKS}.json",),
    ),
    Row(
        f"{MIXTRAL} --ep-size 2 --tp-size 1",
        (f"E=4,N=14336,{H200}.json",),
        (f"E=4,N=14336,{H200}.json",),
    ),
    Row(
        f"{QWEN2} --dtype fp8_w8a8 --ep-size 4",
        (f"E=16,N=2560,{H200},{FP8}.json",),
        (f"E=16,N=2560,{H200},{FP8}.json",),
    ),
    Row(
        "--model xai-org/grok-1 --ep-size 8",
        (f"E=1,N=32768,{H200}.json",),
        (f"E=1,N=32768,{H200}.json",),
    ),
    Row(
        "--model Qwen/Qwen3-VL-30B-A3B-Instruct --tp-size 2",
        (f"E=128,N=384,{H200}.json",),
        (f"E=128,N=384,{H200}.json",),
    ),
    Row(
        "--model meituan/DeepSeek-R1-Channel-INT8 --tp-size 16 --dtype int8_w8a8 "
        "--per-channel-quant",
        (f"E=257,N=128,{H200},dtype=int8_w8a8,per_channel_quant=True.json",),
        (f"E=256,N=128,{H200}.json",),
    ),
    Row(
        MIXTRAL,
        (f"E=8,N=14336,{H200}.json",),
        (f"E=8,N=14336,{H200}.json",),
        SMALL.replace("--batch-size 64", "--batch-size 2048"),
    ),
    Row(
        f"{QWEN2} --tp-size 4 --kernel separate",
        _down(f"E=64,N=640,{H200}"),
        (f"E=64,N=640,{H200}.json",),
    ),
    Row(
        f"{MIXTRAL} --ep-size 2 --kernel separate",
        _down(f"E=4,N=14336,{H200}"),
        (f"E=4,N=14336,{H200}.json",),
    ),
    Row(
        f"{DEEPSEEK} --ep-size 4 --dtype fp8_w8a8 --kernel separate",
        _down(f"E=64,N=2048,{H200},{FP8},block_shape=[128, 128]"),
        (f"E=64,N=2048,{H200},{FP8},{BLOCKS}.json",),
    ),
)
BENCH = (
    f"bench {DEEPSEEK} --ep-size 4 --dtype fp8_w8a8 --kernel separate --batch-size 1024 "
    "--configs 128 256 128 16 8 4 --device estimate:NVIDIA_H200"
)


def autotune(words: Sequence[str], folder: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "autotune", *words]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)


def verdict(row: Row, folder: Path) -> str:
    """ "ok", or what is wrong."""
    done = autotune(["run", *row.words.split(), *row.more.split(), "--json"], folder)
    if done.returncode:
        return f"exit {done.returncode}: {done.stderr.strip().splitlines()[-1:]}"
    written = [Path(file["path"]) for file in json.loads(done.stdout)["files"]]
    for engine, wanted in (("sglang", row.sglang), ("vllm", row.vllm)):
        paths = [path for path in written if engine in path.parts]
        if sorted(path.name for path in paths) != sorted(wanted):
            return f"{engine} has {[path.name for path in paths]}, not {list(wanted)}"
        check = autotune(["check", *map(str, paths), "--engine", engine], folder)
        if check.returncode:
            return f"check {engine}: {check.stdout.strip()}"
    return "ok"


def main(word: str = "") -> int:
    rows = [row for row in ROWS if word in row.words]
    verdicts = []
    print("| command | seconds | verdict |\n|---|---|---|")
    for row in rows:
        with tempfile.TemporaryDirectory() as folder:
            begin = time.monotonic()
            verdicts.append(verdict(row, Path(folder)))
        print(f"| run {row.words} | {time.monotonic() - begin:.0f} | {verdicts[-1]} |", flush=True)
    if word in BENCH:
        with tempfile.TemporaryDirectory() as folder:
            begin, done = time.monotonic(), autotune(BENCH.split(), Path(folder))
        verdicts.append("ok" if done.returncode == 0 else done.stdout + done.stderr)
        print(f"| {BENCH} | {time.monotonic() - begin:.0f} | {verdicts[-1]} |")
    return int(any(words != "ok" for words in verdicts))


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:2]))
