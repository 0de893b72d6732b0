"""Our kernels (tuned here, as the engines ship them, by the engines' defaults) beside PyTorch's,
and the engines' own where they are installed: Mixtral-8x7B TP2 bf16 and Qwen3-30B-A3B fp8.

    python benchmarks/gpu/compare.py OUT [--engine-configs FOLDER]

FOLDER holds the engines' shipped files, as ``sglang/configs/triton_X_Y_Z/…`` and ``vllm/…``; the
newest for this GPU are taken, else those for an H200. OUT gets a folder for each model: what
``run`` printed, and what ``compare`` printed and wrote.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from autotune.backends.nvidia import gpus

SIZES = ("1", "4", "16", "64", "256", "1024", "4096")


@dataclass(frozen=True)
class Case:
    """A model, and how its engine files' names begin and end."""

    name: str
    words: tuple[str, ...]
    begin: str
    end: str


CASES = (
    Case(
        "mixtral_8x7b_tp2_bf16",
        ("--model", "mistralai/Mixtral-8x7B-v0.1", "--tp-size", "2"),
        "E=8,N=7168,device_name=",
        ".json",
    ),
    Case(
        "qwen3_30b_a3b_fp8",
        ("--model", "Qwen/Qwen3-30B-A3B-FP8", "--tp-size", "1"),
        "E=128,N=768,device_name=",
        ",dtype=fp8_w8a8,block_shape=[128,128].json",
    ),
)


def shipped(folder: Path, case: Case, gpu: str) -> Iterator[str]:
    """``LABEL:PATH`` of each engine's newest file for the GPU, or for an H200."""
    for engine in ("sglang", "vllm"):
        files = sorted((folder / engine).rglob("*.json"), reverse=True)
        for device in dict.fromkeys((gpu, "NVIDIA_H200")):
            wanted = f"{case.begin}{device}{case.end}"
            named = [path for path in files if path.name.replace(" ", "") == wanted]
            if named:
                suffix = "" if device == gpu else " for H200"
                yield f"{engine} shipped{suffix}:{named[0]}"
                break


def run(log: Path, *words: str) -> None:
    """One command of ours; what it prints goes to the log and to the terminal."""
    command = [sys.executable, "-m", "autotune", *words]
    began = time.monotonic()
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    head = f"$ python -m autotune {' '.join(words)}\n"
    tail = f"exit code {done.returncode}, {time.monotonic() - began:.0f} s\n"
    text = head + done.stderr + done.stdout + tail
    log.write_text(text, encoding="utf-8")
    print(text, flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("--engine-configs", type=Path)
    parser.add_argument("--sizes", nargs="+", default=SIZES)
    names = [case.name for case in CASES]
    parser.add_argument("--cases", nargs="+", choices=names, default=names)
    args = parser.parse_args()
    found = gpus()
    gpu = found[0].name.replace(" ", "_") if isinstance(found, list) and found else "unknown"
    for case in (case for case in CASES if case.name in args.cases):
        folder = args.out / case.name
        folder.mkdir(parents=True, exist_ok=True)
        sizes = ("--batch-size", *args.sizes)
        where = ("--output-dir", str(folder / "configs"))
        storage = ("--storage", f"sqlite:///{folder / 'autotune.db'}")
        run(folder / "run.log", "run", *case.words, *sizes, *where, *storage)
        files = list(shipped(args.engine_configs, case, gpu)) if args.engine_configs else []
        more = ("--config-file", *files) if files else ()
        save = ("--save-path", str(folder))
        run(folder / "compare.log", "compare", *case.words, *sizes, *where, *more, *save)
        (folder / "autotune.db").unlink(missing_ok=True)


if __name__ == "__main__":
    main()
