"""How far engines, our kernel and the reference are from each other, by two measures.

    python benchmarks/gpu/engine_errors.py --out errors.json autotune vllm sglang   # needs a GPU

For every dtype and two batch sizes: the largest error of an element over its row's root mean square
(what ``kernels/verify.py`` allows by dtype), and the largest of the rows' errors in the Frobenius
norm, relative to the row's norm. Each provider runs the config that it chooses itself, ours vLLM's
default. Providers share inputs, so they are compared with each other too.
"""

from __future__ import annotations

import argparse
import itertools
import json
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from autotune.backends.gpu.providers import open_provider
from autotune.backends.gpu.tensor_cache import no_room
from autotune.backends.gpu.testbed import Testbed, take_device
from autotune.backends.protocol import MeasurerOptions
from autotune.engines import ENGINES
from autotune.errors import AutotuneError
from autotune.kernels.verify import TOLERANCE, relative_error
from autotune.spec.problem import Dtype, Problem

QWEN = Problem(128, 8, 2048, 768, 1)
MIXTRAL = Problem(8, 2, 4096, 7168, 1)
NEMOTRON = Problem(128, 6, 2688, 1856, 1, gated=False)
DEEPSEEK = Problem(256, 8, 7168, 256, 1, dtype=Dtype.FP8_W8A8, block_shape=(128, 128))
LAYERS = {
    "Qwen3-30B TP1 bf16": QWEN,
    "Qwen3-30B TP1 fp16": replace(QWEN, dtype=Dtype.FP16),
    "Mixtral TP2 fp8 per tensor": replace(MIXTRAL, dtype=Dtype.FP8_W8A8),
    "Mixtral TP2 fp8 per channel": replace(MIXTRAL, dtype=Dtype.FP8_W8A8, per_channel_quant=True),
    "Mixtral TP2 int8_w8a8 per channel": replace(
        MIXTRAL, dtype=Dtype.INT8_W8A8, per_channel_quant=True
    ),
    "Mixtral TP2 int8_w8a16 per channel": replace(MIXTRAL, dtype=Dtype.INT8_W8A16),
    "Mixtral TP2 int8_w8a16, groups of 128": replace(
        MIXTRAL, dtype=Dtype.INT8_W8A16, block_shape=(0, 128)
    ),
    "Mixtral TP2 int4_w4a16, groups of 128": replace(
        MIXTRAL, dtype=Dtype.INT4_W4A16, block_shape=(0, 128)
    ),
    "DeepSeek-V3 TP8 block fp8": DEEPSEEK,
    "DeepSeek-V3 TP8 block fp8, shared expert fused": replace(
        DEEPSEEK, experts=257, top_k=9, fused_shared_experts=1
    ),
    "Nemotron-3-Nano TP1 bf16, no gate": NEMOTRON,
    "Nemotron-3-Nano TP1 fp8 per tensor, no gate": replace(NEMOTRON, dtype=Dtype.FP8_W8A8),
    "Nemotron-3-Nano TP1 int8_w8a8 per channel, no gate": replace(
        NEMOTRON, dtype=Dtype.INT8_W8A8, per_channel_quant=True
    ),
    "Nemotron-3-Nano TP1 int4_w4a16, groups of 64, no gate": replace(
        NEMOTRON, dtype=Dtype.INT4_W4A16, block_shape=(0, 64)
    ),
    "Mixtral EP2 bf16": replace(MIXTRAL, experts=4, intermediate=14336, ep_size=2),
}
TOKENS = (16, 1024)


def row_error(output: Tensor, reference: Tensor) -> float:
    """Return the largest of the rows' errors, each relative to its row's norm; [M, H] both. Rows
    below a hundredth of the mean norm (all slots dropped) count by that."""
    norms = reference.norm(dim=1)
    floor = norms.mean() / 100
    return float(((output - reference).norm(dim=1) / norms.clamp_min(floor)).max())


def rows(providers: list[str], word: str) -> Iterator[dict[str, object]]:
    layers = {layer: base for layer, base in LAYERS.items() if word in layer}
    with tempfile.TemporaryDirectory() as folder:
        options = MeasurerOptions(cache_dir=Path(folder))
        testbed = Testbed(take_device(0, options), options, instances=1, room_bytes=no_room)
        opened = {}
        for name in providers:
            try:
                opened[name] = open_provider(name, testbed.site)
            except AutotuneError as error:
                print(f"{name} is left out: {error}", flush=True)
        for (layer, base), tokens in itertools.product(layers.items(), TOKENS):
            problem = replace(base, tokens=tokens)
            outputs = {}
            for name, provider in opened.items():
                if why_not := provider.why_not(problem):
                    print(f"{layer}, {tokens} tokens, {name}: {why_not}", flush=True)
                    continue
                prepared = testbed.tensors.prepare(problem, provider)
                prepared.layer.route(prepared.routings[0])
                default = ENGINES["vllm"].default_config(problem, testbed.facts)
                try:
                    out = prepared.layer.run(default if name == "autotune" else None).float()
                except RuntimeError as error:
                    print(f"{layer}, {tokens} tokens, {name}: {error}", flush=True)
                    continue
                outputs[name], outputs["reference"] = out.clone(), prepared.reference.clone()
            for one, other in itertools.combinations(outputs, 2):
                yield {
                    "layer": layer,
                    "tokens": tokens,
                    "of": one,
                    "against": other,
                    "largest": round(relative_error(outputs[one], outputs[other]), 4),
                    "allowed": TOLERANCE[problem.dtype],
                    "row": round(row_error(outputs[one], outputs[other]), 5),
                }
            testbed.tensors.release()
        for provider in opened.values():
            provider.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("providers", nargs="+")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--layers", default="", metavar="WORDS", help="of the names to take")
    given = parser.parse_args()
    torch.manual_seed(0)
    found = []
    for row in rows(given.providers, given.layers):
        found.append(row)
        print(row, flush=True)
    given.out.write_text(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
