"""Which engines serve a model as it is split, and the problem that each of them has then."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace

from autotune.engines import ENGINES, Engine
from autotune.engines.own_code.asking import (
    NAMED_DEVICE,
    own_code_of,
    with_own_class,
    with_own_names,
)
from autotune.engines.own_code.question import Question
from autotune.errors import NotServedError, UsageError
from autotune.models.load import load_config
from autotune.models.problems import Parallelism, routing_of, scales_of, with_redundant
from autotune.models.shape import ModelShape
from autotune.routing.draw import most_loaded_rank
from autotune.settings import ModelSettings
from autotune.spec.problem import Dtype, Problem

logger = logging.getLogger(__name__)


def serving(shape: ModelShape, settings: ModelSettings, engines: Sequence[str]) -> list[Engine]:
    """Return the engines that serve the model so, each with the file names that its own code makes
    where that is at hand; says which do not. Raises NotServedError where all refuse."""
    serve: list[Engine] = []
    refusals: dict[str, NotServedError] = {}
    for name in engines:
        try:
            serve.append(named(shape, settings, ENGINES[name]))
        except NotServedError as error:
            refusals[name] = error
    if refusals and not serve:
        raise next(iter(refusals.values()))
    for name, refusal in refusals.items():
        logger.warning("no files for %s: %s", ENGINES[name].title, refusal)
    return serve


def problem_for(shape: ModelShape, settings: ModelSettings, engine: Engine, tokens: int) -> Problem:
    """Return the problem of one rank. Raises as ``Engine.serves`` does."""
    parallel = _parallel(settings)
    drawn = with_redundant(shape, parallel)
    problem = engine.serves(
        shape,
        dtype_of(settings.dtype),
        parallel,
        tokens=tokens,
        routing=routing_of(drawn, settings.routing, settings.topk_ids_dir, tokens),
        per_channel_quant=settings.per_channel_quant,
        fuses=not settings.disable_shared_experts_fusion,
    )
    if settings.ep_rank is None and problem.ep_size > 1:
        return replace(problem, ep_rank=most_loaded_rank(problem))
    return problem


def named(shape: ModelShape, settings: ModelSettings, engine: Engine) -> Engine:
    """Return the engine with its own names. Raises NotServedError where it or its code refuses."""
    own = own_code_of(engine, settings.engine_sources) if settings.model else None
    engine = with_own_class(engine, own, shape) if own else engine
    problem = problem_for(shape, settings, engine, settings.batch_sizes[0])
    if own is None or settings.model is None or shape.dense:
        return engine
    question = Question.of(
        load_config(settings.model),
        scales_of(shape, dtype_of(settings.dtype), settings.per_channel_quant),
        _parallel(settings),
        device_name=NAMED_DEVICE.name,
        fuses=not settings.disable_shared_experts_fusion,
    )
    return with_own_names(engine, own, question, problem)


def _parallel(settings: ModelSettings) -> Parallelism:
    return Parallelism(
        settings.tp_size, settings.ep_size, settings.ep_rank or 0, settings.ep_num_redundant_experts
    )


def dtype_of(name: str) -> Dtype | None:
    """None for auto. Raises UsageError for an unknown name."""
    if name == "auto":
        return None
    try:
        return Dtype(name)
    except ValueError as error:
        allowed = ", ".join(["auto", *(dtype.value for dtype in Dtype)])
        raise UsageError(f"--dtype {name!r} is unknown; allowed are {allowed}") from error
