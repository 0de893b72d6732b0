"""A model shape, how it is split over ranks, and a routing → the problem that one rank computes."""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from functools import cache
from itertools import pairwise
from pathlib import Path

from autotune.errors import ModelError, UsageError
from autotune.models.shape import ModelShape, WeightQuantization
from autotune.routing.distributions import Size, check
from autotune.routing.trace import RECORDED, RoutingTrace, is_known, known_trace, make_known
from autotune.routing.trace_files import read_trace
from autotune.spec.problem import Dtype, Problem

logger = logging.getLogger(__name__)

# The group size that published AWQ and GPTQ checkpoints have. The int4 kernels need a group, and
# a checkpoint that is not int4 names none.
INT4_GROUP = 128

GROUPED = "grouped"
_MOST_RANKS = 128  # error messages list the sizes that divide up to here


@dataclass(frozen=True, slots=True)
class Parallelism:
    """The ranks of a server, as SGLang's flags count them."""

    tp_size: int = 1
    """Ranks of a layer; 1 beside a larger ``ep_size`` stands for as many as that."""
    ep_size: int = 1
    """Parts into which the experts are split; ``tp_size / ep_size`` ranks share each."""
    ep_rank: int = 0
    redundant_experts: int = 0
    """Experts that are there twice, so that expert-parallel ranks are loaded alike."""


def with_redundant(shape: ModelShape, parallel: Parallelism) -> ModelShape:
    """``shape``, with every copy of an expert counted. Raises UsageError without parallelism."""
    redundant = parallel.redundant_experts
    if redundant and parallel.ep_size == 1:
        raise UsageError(
            f"--ep-num-redundant-experts {redundant} with --ep-size 1: copies of experts are for "
            "other expert-parallel ranks. Give --ep-size, or leave it out"
        )
    return replace(shape, experts=shape.experts + redundant)


def problem_of(
    shape: ModelShape,
    dtype: Dtype | None,
    *,
    tp_size: int = 1,
    ep_size: int = 1,
    ep_rank: int = 0,
    per_channel_quant: bool = False,
    fused_shared_experts: int = 0,
    tokens: int,
    routing: str,
) -> Problem:
    """Return the problem that one rank computes of one layer for ``tokens`` rows.

    ``tp_size`` counts the ranks that share one expert: 4 for an SGLang server with
    ``--tp-size 8 --ep-size 2``. Each holds ``experts / ep_size`` experts, and
    ``fused_shared_experts`` more, which every token visits.

    ``dtype`` None is what the checkpoint has. Block scales are the checkpoint's where ``dtype``
    is the checkpoint's, else there are none (int4: groups of 128 along K).

    Raises UsageError for sizes that do not divide and flags that contradict each other, ModelError
    where ``dtype`` is None and the checkpoint's is not one that is computed here.
    """
    _check_rank(ep_size, ep_rank)
    flag = "--tp-size" if ep_size == 1 else "--tp-size / --ep-size"
    _check_divides(shape, flag, tp_size, "intermediate size", shape.intermediate)
    _check_divides(shape, "--ep-size", ep_size, "experts", shape.experts)
    scales = scales_of(shape, dtype, per_channel_quant)
    return Problem(
        experts=shape.experts // ep_size + fused_shared_experts,
        top_k=shape.top_k + fused_shared_experts,
        hidden=shape.hidden,
        intermediate=shape.intermediate // tp_size,
        tokens=tokens,
        dtype=scales.dtype or shape.dtype,
        block_shape=scales.block_shape,
        per_channel_quant=scales.per_channel_quant,
        zero_points=scales.zero_points,
        ep_size=ep_size,
        ep_rank=ep_rank,
        fused_shared_experts=fused_shared_experts,
        routing=routing,
        gated=shape.gated,
    )


def _check_rank(ep_size: int, ep_rank: int) -> None:
    if not 0 <= ep_rank < ep_size:
        raise UsageError(
            f"expert-parallel rank is {ep_rank}; with --ep-size {ep_size} it is "
            f"0 to {ep_size - 1}. Try rank 0"
        )


def _check_divides(shape: ModelShape, flag: str, ranks: int, what: str, size: int) -> None:
    if size % ranks == 0:
        return
    allowed = [n for n in range(1, min(size, _MOST_RANKS) + 1) if size % n == 0]
    below = max(n for n in allowed if n < ranks)
    raise UsageError(
        f"{flag} {ranks} does not divide the {what} of {shape.name}, {size}; allowed are "
        f"{', '.join(map(str, allowed))}. Try {flag} {below}"
    )


def scales_of(shape: ModelShape, dtype: Dtype | None, per_channel: bool) -> WeightQuantization:
    """Return the quantisation to compute with: the checkpoint's if it fits, else the dtype's.
    Raises as ``problem_of``."""
    stored = shape.quantization or WeightQuantization("none", shape.dtype)
    wanted = dtype or stored.dtype
    if wanted is None:
        raise ModelError(
            f"{shape.name} stores its experts as {stored.method}, which the Triton kernels here "
            f"do not compute; allowed are {', '.join(d.value for d in Dtype)}. {_instead(stored)}"
        )
    if per_channel and wanted not in (Dtype.FP8_W8A8, Dtype.INT8_W8A8):
        raise UsageError(
            f"--per-channel-quant with dtype {wanted.value}: only fp8_w8a8 and int8_w8a8 have "
            f"scales per channel and token. Try --dtype fp8_w8a8, or leave the flag out"
        )
    if wanted is not stored.dtype:
        block = (0, INT4_GROUP) if wanted is Dtype.INT4_W4A16 else None
        return WeightQuantization("flag", wanted, block, per_channel)
    if per_channel and stored.block_shape:
        _warn_once(
            f"--per-channel-quant is left out: {shape.name} has block scales "
            f"{list(stored.block_shape)}, and engines serve it so"
        )
    block_shape = stored.block_shape
    if wanted is Dtype.INT4_W4A16 and (block_shape is None or block_shape[1] == 0):
        raise ModelError(
            f"{shape.name} stores int4 weights without groups along K (group_size), which the "
            "Triton kernels here do not compute. Try another checkpoint of the model"
        )
    per_channel = (per_channel or stored.per_channel_quant) and block_shape is None
    # Only kernels for weights in groups along K read zero points.
    zero_points = stored.zero_points and block_shape is not None and block_shape[0] == 0
    return WeightQuantization(stored.method, wanted, block_shape, per_channel, zero_points)


def _instead(stored: WeightQuantization) -> str:
    """Say what to try where the checkpoint's experts are in no type that is computed here."""
    if stored.upcast:
        return "Try --dtype bf16 for SGLang with --moe-runner-backend triton, which serves it so"
    return "No engine is known to serve it in one of these: try another checkpoint of the model"


@cache
def _warn_once(text: str) -> None:
    """Warn once a process: a run makes a problem for each batch size."""
    logger.warning(text)


def routing_of(shape: ModelShape, routing: str, folder: str | None, tokens: int) -> str:
    """``routing`` as a problem of this model with ``tokens`` rows says it; the recording in
    ``folder`` is made known.

    Raises UsageError for an unknown name or numbers that do not suit the model, where it has no
    groups, and where the recording is another one than ``routing`` names or is not of this model.
    """
    names = [_grouped(shape, name) if name == GROUPED else name for name in routing.split(",")]
    for name in names:
        if name.startswith(RECORDED):
            recording = _recording(name, folder)
            check_recording(shape, recording)
            if tokens > recording.fewest_rows:
                _warn_once(
                    f"{recording.origin} has {recording.fewest_rows} tokens: larger batch sizes "
                    "repeat some of them"
                )
        else:
            check(name, Size(tokens, shape.experts, shape.top_k))
    return ",".join(names)


def check_recording(shape: ModelShape, recording: RoutingTrace) -> None:
    """Raises UsageError where the recording cannot be of this model; says what it lacks."""
    recording.check(shape.experts, shape.top_k)
    layers = sorted(recording.layers)
    first, last = shape.first_dense_layers, shape.layers - 1
    if layers[0] < first:
        raise UsageError(
            f"{recording.origin} has layer {layers[0]}, but the first {first} layers of "
            f"{shape.name} are dense. Was it recorded from another model?"
        )
    if shape.layers and layers[-1] > last:
        raise UsageError(
            f"{recording.origin} has layer {layers[-1]}, but {shape.name} has layers 0 to {last}. "
            "Was it recorded from another model?"
        )
    missing = sorted(set(shape.moe_layers) - set(layers))
    unless = ""
    if not shape.moe_layers:
        missing = missing_layers(layers, first, last if shape.layers else layers[-1])
        unless = "unless they are dense, "
    if missing:
        _warn_once(
            f"{recording.origin} lacks layers {', '.join(map(str, missing))} of {shape.name}: "
            f"{unless}the others stand for them"
        )


def missing_layers(layers: list[int], first: int, last: int) -> list[int]:
    """Layers that a model with experts in every n-th layer would have too, n being the smallest
    distance of two recorded ones; 1 where there is one alone."""
    step = min((b - a for a, b in pairwise(layers)), default=1)
    expected = {*range(layers[0], first - 1, -step), *range(layers[0], last + 1, step)}
    return sorted(expected - set(layers))


def _recording(routing: str, folder: str | None) -> RoutingTrace:
    """Return the one that ``routing`` names; read where this process does not know it yet."""
    if folder is not None and not is_known(routing):
        found = read_trace(Path(folder))
        if found.routing != routing:
            raise UsageError(
                f"--topk-ids-dir {folder} holds {found.routing}, but this was started with "
                f"{routing}. Bring that recording back, or start anew with this one"
            )
        make_known(found)
    return known_trace(routing)


def _grouped(shape: ModelShape, name: str) -> str:
    if shape.expert_groups < 1 or shape.top_k_groups < 1:
        raise UsageError(
            f"--routing {name}: the config of {shape.name} has no n_group and topk_group. "
            "Say how many groups and how many a token keeps: --routing grouped:8:4"
        )
    return f"{GROUPED}:{shape.expert_groups}:{shape.top_k_groups}"
