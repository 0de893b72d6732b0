"""Whether verification finds the engines right: every dtype, each engine, with and without EP.

    python benchmarks/gpu/engine_errors.py --out engine_errors.json    # needs a GPU

A line for each layer, batch size and provider: its error against the reference over what
``kernels/verify.py`` allows, or why it did not run, in its own words; and one for how far the
providers are from each other, by the same measure. Each runs in a process of its own, all at once,
with the config that it chooses itself, ours with vLLM's default. An engine that is not installed is
left out.
"""

from __future__ import annotations

import argparse
import itertools
import json
import subprocess
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from autotune.backends.gpu.device_errors import first_line
from autotune.backends.gpu.providers import Provider, open_provider
from autotune.backends.gpu.tensor_cache import no_room
from autotune.backends.gpu.testbed import Testbed, take_device
from autotune.backends.protocol import MeasurerOptions
from autotune.engines import ENGINES
from autotune.errors import AutotuneError
from autotune.kernels.verify import TOLERANCE, Verdict, relative_error
from autotune.spec.problem import Dtype, Problem

QWEN = Problem(128, 8, 2048, 768, 1)
MIXTRAL = Problem(8, 2, 4096, 7168, 1)
MIXTRAL_EP2 = replace(MIXTRAL, experts=4, intermediate=14336, ep_size=2)
NEMOTRON = Problem(128, 6, 2688, 1856, 1, gated=False)
Changes = dict[str, Any]
FP8: Changes = {"dtype": Dtype.FP8_W8A8}
BLOCK: Changes = {**FP8, "block_shape": (128, 128)}
DEEPSEEK = Problem(256, 8, 7168, 256, 1, **BLOCK)
W8A8: Changes = {"dtype": Dtype.INT8_W8A8}
W8A16: Changes = {"dtype": Dtype.INT8_W8A16}
W4A16: Changes = {"dtype": Dtype.INT4_W4A16}
CHANNEL: Changes = {"per_channel_quant": True}
GROUP: Changes = {"block_shape": (0, 128)}
LAYERS: dict[str, Problem] = {
    "Qwen3-30B bf16": QWEN,
    "Qwen3-30B fp16": replace(QWEN, dtype=Dtype.FP16),
    "Mixtral TP2 fp8 per tensor": replace(MIXTRAL, **FP8),
    "Mixtral TP2 fp8 per channel": replace(MIXTRAL, **FP8, **CHANNEL),
    "Mixtral TP2 fp8 block": replace(MIXTRAL, **BLOCK),
    "Mixtral TP2 int8_w8a8 per channel": replace(MIXTRAL, **W8A8, **CHANNEL),
    "Mixtral TP2 int8_w8a8 block": replace(MIXTRAL, **W8A8, block_shape=(128, 128)),
    "Mixtral TP2 int8_w8a16 per channel": replace(MIXTRAL, **W8A16),
    "Mixtral TP2 int8_w8a16 groups": replace(MIXTRAL, **W8A16, **GROUP),
    "Mixtral TP2 int4_w4a16 groups": replace(MIXTRAL, **W4A16, **GROUP),
    "Mixtral TP2 int4_w4a16 zero points": replace(MIXTRAL, **W4A16, **GROUP, zero_points=True),
    "DeepSeek-V3 TP8 fp8 block": DEEPSEEK,
    "DeepSeek-V3 TP8 fp8 block, fused": replace(
        DEEPSEEK, experts=257, top_k=9, fused_shared_experts=1
    ),
    "Nemotron-3-Nano bf16, no gate": NEMOTRON,
    "Nemotron-3-Nano fp8 per tensor, no gate": replace(NEMOTRON, **FP8),
    "Nemotron-3-Nano int8_w8a8 per channel, no gate": replace(NEMOTRON, **W8A8, **CHANNEL),
    "Nemotron-3-Nano int4_w4a16 groups of 64, no gate": replace(
        NEMOTRON, **W4A16, block_shape=(0, 64)
    ),
    "Mixtral EP2 bf16": MIXTRAL_EP2,
    "Mixtral EP2 fp8 block": replace(MIXTRAL_EP2, **BLOCK),
}
TOKENS = (16, 300, 1024)
LIMIT_S = 240.0
"""Seconds after which a provider's process is ended: its cells so far count."""

Answer = dict[str, Any]
"""``error``, ``tolerance`` and ``right``, or ``refused``, of one cell."""


def cells(word: str) -> list[tuple[str, int, Problem]]:
    """Return layer, batch size and problem of each cell whose layer's name has the word."""
    layers = [(layer, problem) for layer, problem in LAYERS.items() if word in layer]
    return [
        (layer, tokens, replace(problem, tokens=tokens))
        for (layer, problem), tokens in itertools.product(layers, TOKENS)
    ]


def compute(name: str, word: str, folder: Path) -> None:
    """Write a line for each cell to the provider's file, and outputs beside it. A first line with
    ``left_out`` is the only one where it cannot be opened."""
    options = MeasurerOptions(cache_dir=folder / "cache")
    with (folder / f"{name}.jsonl").open("w") as file:
        testbed = Testbed(take_device(0, options), options, instances=1, room_bytes=no_room)
        try:
            provider = open_provider(name, testbed.site)
        except AutotuneError as error:
            file.write(json.dumps({"left_out": str(error)}) + "\n")
            return
        for cell, (layer, tokens, problem) in enumerate(cells(word)):
            answer = answer_of(testbed, provider, problem, folder / f"{name}.{cell}.pt")
            file.write(json.dumps(answer) + "\n")
            file.flush()
            line = f"{layer}, {tokens} tokens, {name}: {in_words(answer)}\n"
            print(line, end="", flush=True)  # whole: others print too
        testbed.tensors.release()
        provider.close()


def answer_of(testbed: Testbed, provider: Provider, problem: Problem, path: Path) -> Answer:
    """Run one cell and save its output to ``path``."""
    if why_not := provider.why_not(problem):
        return {"refused": why_not}
    config = None
    if provider.name == "autotune" and testbed.facts:
        config = ENGINES["vllm"].default_config(problem, testbed.facts)
    try:
        prepared = testbed.tensors.prepare(problem, provider)
        prepared.layer.route(prepared.routings[0])
        output = prepared.layer.run(config)
        error = relative_error(output, prepared.reference)
    except Exception as raised:  # noqa: BLE001 - whatever an engine says is the answer
        testbed.tensors.release()
        return {"refused": f"{type(raised).__name__}: {first_line(raised)}"}
    torch.save(output.cpu(), path)
    verdict = Verdict(error, TOLERANCE[problem.dtype])
    return {"error": error, "tolerance": verdict.tolerance, "right": verdict.is_right}


def in_words(answer: Answer) -> str:
    if "refused" in answer:
        return f"refused, {answer['refused']}"
    word = "right" if answer["right"] else "WRONG"
    return f"{word}, {answer['error']:.4f} / {answer['tolerance']:.4f}"


def answers_of(
    name: str, count: int, folder: Path, process: subprocess.Popen[bytes]
) -> list[Answer]:
    """Wait for a provider; of ``count`` cells, those that it did not come to are refused with
    how it ended."""
    try:
        ended = f"its process ended with {process.wait(LIMIT_S)}"
    except subprocess.TimeoutExpired:
        process.kill()
        ended = f"its process took more than {LIMIT_S:g} s"
    path = folder / f"{name}.jsonl"
    lines = path.read_text().splitlines() if path.exists() else []
    found: list[Answer] = [json.loads(line) for line in lines]
    if found and "left_out" in found[0]:
        return found
    said = (folder / f"{name}.err").read_text(errors="replace").splitlines()
    last = f": {said[-1]}" if said else ""
    return found + [{"refused": ended + last}] * (count - len(found))


def start(name: str, word: str, folder: Path) -> subprocess.Popen[bytes]:
    command = [sys.executable, __file__, "--of", name, "--layers", word, "--folder", str(folder)]
    with (folder / f"{name}.err").open("wb") as err:
        return subprocess.Popen(command, stderr=err)


def pairs_of(cell: int, names: list[str], folder: Path, tolerance: float) -> list[Answer]:
    """Return how far the providers that ran the cell are from each other."""
    outputs = {
        name: torch.load(path, weights_only=True).float()
        for name in names
        if (path := folder / f"{name}.{cell}.pt").exists()
    }
    found = []
    for one, other in itertools.combinations(outputs, 2):
        error = relative_error(outputs[one], outputs[other])
        found.append({"of": one, "against": other, "error": error, "agree": error <= tolerance})
    return found


def table(names: list[str], word: str, folder: Path) -> tuple[dict[str, str], list[dict[str, Any]]]:
    """Run every provider; return those left out, with why, and a row for each cell."""
    wanted = cells(word)
    processes = {name: start(name, word, folder) for name in names}
    answers = {
        name: answers_of(name, len(wanted), folder, process) for name, process in processes.items()
    }
    left_out = {name: a[0]["left_out"] for name, a in answers.items() if "left_out" in a[0]}
    ran = [name for name in names if name not in left_out]
    rows = []
    for cell, (layer, tokens, problem) in enumerate(wanted):
        pairs = pairs_of(cell, ran, folder, TOLERANCE[problem.dtype])
        of = {name: answers[name][cell] for name in ran}
        rows.append({"layer": layer, "tokens": tokens, "providers": of, "pairs": pairs})
    return left_out, rows


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("providers", nargs="*", default=["autotune", "vllm", "sglang"])
    parser.add_argument("--out", type=Path)
    parser.add_argument("--layers", default="", metavar="WORDS", help="of the names to take")
    parser.add_argument("--of", help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.of:
        compute(given.of, given.layers, given.folder)
        return
    if given.out is None or not cells(given.layers):
        parser.error("--out is needed, and --layers from: " + ", ".join(LAYERS))
    with tempfile.TemporaryDirectory() as folder:
        left_out, rows = table(given.providers, given.layers, Path(folder))
    for name, reason in left_out.items():
        print(f"{name} is left out: {reason}")
    for row in rows:
        apart = "; ".join(
            f"{pair['of']} and {pair['against']} {'agree' if pair['agree'] else 'DISAGREE'}, "
            f"{pair['error']:.4f}"
            for pair in row["pairs"]
        )
        print(f"{row['layer']}, {row['tokens']} tokens: {apart or 'no two ran it'}")
    answers = [answer for row in rows for answer in row["providers"].values()]
    counts = [sum(a.get("right") is word for a in answers) for word in (True, False, None)]
    print("{} right, {} wrong, {} refused".format(*counts))
    given.out.write_text(json.dumps({"left_out": left_out, "rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
