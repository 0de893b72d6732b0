"""A plugin for SGLang and vLLM that records which experts a served model chooses.

Writes ``topk_ids_layer{L}_idx{I}.pt`` into $TOPK_IDS_DIR, from the moment that a file ``start``
is there until each layer has $TOPK_IDS_TOKENS (8192) rows. docs/routing.md says how to use it.
"""

from __future__ import annotations

import functools
import os
from pathlib import Path

import torch

ROWS_OF_A_FILE = 4096
_rows: dict[int, list[torch.Tensor]] = {}
_written: set[int] = set()


def take(layer: int | None, topk_ids: torch.Tensor) -> None:
    """One layer's choices in one forward pass, [tokens, top_k], in the model's own numbering."""
    folder = os.environ.get("TOPK_IDS_DIR")
    if folder is None or layer is None or layer in _written or not _is_first_rank():
        return
    if not (Path(folder) / "start").exists():  # start-up and warm-up route dummy tokens
        return
    rows = _rows.setdefault(layer, [])
    rows.append(topk_ids.detach().to("cpu", torch.int32))
    wanted = int(os.environ.get("TOPK_IDS_TOKENS", "8192"))
    if sum(map(len, rows)) < wanted:
        return
    whole = torch.cat(_rows.pop(layer))[:wanted]
    for index, part in enumerate(whole.tensor_split(max(1, wanted // ROWS_OF_A_FILE))):
        torch.save(part.clone(), Path(folder) / f"topk_ids_layer{layer}_idx{index}.pt")
    _written.add(layer)


def _is_first_rank() -> bool:
    """Every rank of a tensor-parallel layer chooses the same."""
    there = torch.distributed.is_available() and torch.distributed.is_initialized()
    return not there or torch.distributed.get_rank() == 0


def register_sglang() -> None:
    """Called by SGLang in each of its processes."""
    from sglang.srt.layers.moe import topk

    original = topk.capture_routed_experts_if_allowed

    @functools.wraps(original)
    def capture(topk_config, layer_id, topk_ids):
        take(layer_id, topk_ids)
        return original(topk_config, layer_id, topk_ids)

    topk.capture_routed_experts_if_allowed = capture


def register_vllm() -> None:
    """Called by vLLM in each of its processes."""
    from vllm.v1.worker.gpu_model_runner import GPUModelRunner

    original = GPUModelRunner.load_model

    @functools.wraps(original)
    def load_model(self, *args, **kwargs):
        result = original(self, *args, **kwargs)
        for module in self.model.modules():
            router, layer = getattr(module, "router", None), getattr(module, "layer_id", None)
            if layer is not None and hasattr(router, "set_capture_fn"):
                router.set_capture_fn(functools.partial(take, layer))
        return result

    GPUModelRunner.load_model = load_model
