"""A plugin for SGLang and vLLM that records what a server really runs, while it serves.

Into the folder $TOPK_IDS_DIR, for as long as a file ``start`` is there:

``topk_ids_layer{L}_idx{I}.pt``: the experts that tokens choose, once a layer has $TOPK_IDS_TOKENS
    (8192; 0: none) rows. CUDA graphs must be off: they skip Python, and route padding.
``steps.csv``: a line ``tokens,seconds`` for each forward pass. CUDA graphs may be on: tokens
    are what the graph is for, seconds what the pass took on the GPU.

docs/routing.md and docs/serving.md say how to use it.
"""

from __future__ import annotations

import functools
import logging
import os
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any, TextIO

import torch

ROWS_OF_A_FILE = 4096
_rows: dict[int, list[torch.Tensor]] = {}
_written: set[int] = set()
_running: deque[tuple[int, Any, Any]] = deque()
"""Tokens, begin and end of the passes that the GPU had not finished when it was last asked."""


def records() -> bool:
    """Whether this process records now: not in start-up, whose tokens are made up."""
    folder = os.environ.get("TOPK_IDS_DIR")
    return folder is not None and (Path(folder) / "start").exists() and _is_first_rank()


def _is_first_rank() -> bool:
    """Every rank of a tensor-parallel layer chooses the same."""
    there = torch.distributed.is_available() and torch.distributed.is_initialized()
    return not there or torch.distributed.get_rank() == 0


def take(layer: int | None, topk_ids: torch.Tensor) -> None:
    """One layer's choices in one forward pass, [tokens, top_k], in the model's own numbering."""
    wanted = _rows_of_a_layer()
    if layer is None or layer in _written or not wanted or not records() or _is_captured():
        return
    chosen = topk_ids.detach().to("cpu", torch.int32)
    rows = _rows.setdefault(layer, [])
    rows.append(chosen[(chosen >= 0).all(1)])  # padding is masked by -1
    if sum(map(len, rows)) < wanted:
        return
    whole = torch.cat(_rows.pop(layer))[:wanted]
    for index, part in enumerate(whole.tensor_split(max(1, wanted // ROWS_OF_A_FILE))):
        path = Path(os.environ["TOPK_IDS_DIR"]) / f"topk_ids_layer{layer}_idx{index}.pt"
        torch.save(part.clone(), path)
    _written.add(layer)


def _rows_of_a_layer() -> int:
    return int(os.environ.get("TOPK_IDS_TOKENS", "8192"))


def _is_captured() -> bool:
    return torch.cuda.is_available() and torch.cuda.is_current_stream_capturing()


def now() -> Any:
    """This point of the GPU's stream, or of time where there is no GPU."""
    if not torch.cuda.is_available():
        return time.perf_counter()
    event = torch.cuda.Event(enable_timing=True)
    event.record()
    return event


def step(tokens: int, begin: Any) -> None:
    """A forward pass over so many tokens, from ``begin`` to now, is noted; nothing waits."""
    _running.append((tokens, begin, now()))
    file = _steps()
    while _running and (seconds := _seconds(*_running[0][1:])) is not None:
        file.write(f"{_running.popleft()[0]},{seconds:.6f}\n")


@functools.cache
def _steps() -> TextIO:
    path = Path(os.environ["TOPK_IDS_DIR"]) / "steps.csv"
    is_new = not path.exists()
    file = path.open("a", buffering=1)
    if is_new:
        file.write("tokens,seconds\n")
    return file


def _seconds(begin: Any, end: Any) -> float | None:
    """None if the GPU is not there yet."""
    if isinstance(end, float):
        return end - begin
    return begin.elapsed_time(end) / 1e3 if end.query() else None


def register_sglang() -> None:
    """Called by SGLang in each of its processes."""
    if "TOPK_IDS_DIR" not in os.environ:
        return
    from sglang.srt.plugins.hook_registry import HookRegistry, HookType

    hooks = {
        "sglang.srt.layers.moe.topk.capture_routed_experts_if_allowed": _sglang_choice,
        "sglang.srt.model_executor.model_runner.ModelRunner.forward": _sglang_forward,
    }
    for target, hook in hooks.items():
        HookRegistry.register(target, hook, HookType.AROUND)


def _sglang_choice(original: Any, topk_config: Any, layer_id: Any, topk_ids: Any) -> Any:
    if topk_config.allow_routed_experts_capture:  # not a draft model's
        take(layer_id, topk_ids)
    return original(topk_config, layer_id, topk_ids)


def _sglang_forward(original: Any, runner: Any, batch: Any, *args: Any, **kwargs: Any) -> Any:
    tokens = 0 if batch.input_ids is None else len(batch.input_ids)
    if tokens == 0 or runner.is_draft_worker or not records():
        return original(runner, batch, *args, **kwargs)
    begin = now()
    output = original(runner, batch, *args, **kwargs)
    step(_sglang_padded(runner, batch, tokens) if output.can_run_graph else tokens, begin)
    return output


def _sglang_padded(runner: Any, batch: Any, tokens: int) -> int:
    """The tokens of the graph that was replayed for so many."""
    if not batch.forward_mode.is_cuda_graph():
        graphs = runner.prefill_cuda_graph_runner
        return int(graphs._pad_to_bucket(tokens, graphs.capture_num_tokens))
    graphs = runner.decode_cuda_graph_runner
    if graphs.ragged_verify_mode:
        return int(graphs._ragged_graph_size)
    return int(graphs.bs * graphs.captured_req_width)


def register_vllm() -> None:
    """Called by vLLM in each of its processes, also in those that hold no model."""
    if "TOPK_IDS_DIR" not in os.environ:
        return
    from vllm.v1.worker.worker_base import WorkerWrapperBase

    original = WorkerWrapperBase.init_device

    @functools.wraps(original)
    def init_device(self: Any) -> Any:
        result = original(self)
        _hook_vllm(self.worker.model_runner)
        return result

    WorkerWrapperBase.init_device = init_device


def _hook_vllm(runner: Any) -> None:
    """Of either model runner of vLLM, with and without the V2 in its class's path."""
    load, execute, padded = runner.load_model, runner.execute_model, _vllm_padded(runner)

    @functools.wraps(load)
    def load_model(*args: Any, **kwargs: Any) -> Any:
        result = load(*args, **kwargs)
        layers = 0
        for module in runner.get_model().modules():
            router = getattr(module, "router", None)
            if hasattr(router, "set_capture_fn") and _rows_of_a_layer():
                router.set_capture_fn(functools.partial(take, module.layer_id))
                layers += 1
        folder = os.environ["TOPK_IDS_DIR"]
        log = logging.getLogger("vllm.record_topk_ids")
        log.info(
            "steps, and routing of %s layers, are recorded while %s/start is there", layers, folder
        )
        return result

    @functools.wraps(execute)
    def execute_model(scheduled: Any, *args: Any, **kwargs: Any) -> Any:
        made_up = kwargs.get("dummy_run") or not scheduled.total_num_scheduled_tokens
        if made_up or not records():
            return execute(scheduled, *args, **kwargs)
        begin = now()
        result = execute(scheduled, *args, **kwargs)
        step(padded(), begin)
        return result

    runner.load_model, runner.execute_model = load_model, execute_model


def _vllm_padded(runner: Any) -> Callable[[], int]:
    """How many tokens the last pass had, with padding to a CUDA graph and data-parallel ranks."""
    if not hasattr(runner, "_determine_batch_execution_and_padding"):

        def of_state() -> int:
            state = runner.execute_model_state
            if state.dp_sync_state is not None:
                return int(state.dp_sync_state.num_tokens_across_dp.sum())
            return int(state.input_batch.num_tokens_after_padding)

        return of_state

    original = runner._determine_batch_execution_and_padding
    last = [0]

    @functools.wraps(original)
    def determine(*args: Any, **kwargs: Any) -> Any:
        result = original(*args, **kwargs)
        _, batch, _, of_ranks, *_ = result
        last[0] = int(batch.num_tokens if of_ranks is None else of_ranks.sum())
        return result

    runner._determine_batch_execution_and_padding = determine
    return lambda: last[0]
