"""Kernels that SGLang has nvcc build at their first call, built while the rest of it is imported.

SGLang 0.5.23 keeps such builds in a cache of its own, under a key of all that the compiler sees,
and builds under a lock: whoever needs one that is being built waits, and finds it. Its own
functions are called here, on tensors without memory, until they have built. Importing all of SGLang
takes as long as a build, so its package and helpers are stood in for. Where those would build
something else than SGLang does, its key differs, and nobody takes it.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from importlib import import_module
from importlib.util import find_spec, module_from_spec
from types import ModuleType
from typing import Any

import torch

from autotune.spec.binary import Scales, scales_of
from autotune.spec.problem import Dtype, Problem

_UTILS = "sglang.srt.utils"
_ROWS, _COLUMNS = 4, 256


class _Built(Exception):  # noqa: N818  no error
    """Ends a call: what it launches is built."""


def build(problem: Problem) -> list[str]:
    """Have SGLang build what a layer of the problem calls beside its GEMMs, side by side, and
    launch nothing. Returns in words what came of it: what cannot be built, the measuring process
    will say. On AMD's GPUs its layer takes compiled kernels."""
    if torch.version.hip is not None:
        return []
    _stand_in()
    calls = list(_first_calls(problem))
    with ThreadPoolExecutor(max(len(calls), 1)) as threads:
        return list(threads.map(_tried, calls))


def _first_calls(problem: Problem) -> Iterator[partial[object]]:
    """Yield a call of each kernel, as SGLang's layer calls it."""
    x = torch.float16 if problem.dtype is Dtype.FP16 else torch.bfloat16
    is_fp8, scales = problem.dtype is Dtype.FP8_W8A8, scales_of(problem)
    eight = torch.float8_e4m3fn if is_fp8 else torch.int8
    if problem.gated:
        silu_and_mul = _of("activation.activation", "silu_and_mul")
        yield partial(silu_and_mul, _empty(_COLUMNS, x), _empty(_COLUMNS // 2, x))
    if scales is Scales.BLOCK and problem.block_shape is not None:
        quantise = _of("quantization.per_token_group_quant", "per_token_group_quant")
        group = problem.block_shape[1]
        given = _empty(2 * group, x), _empty(2 * group, eight), _empty(2), group
        yield partial(quantise, *given)
        if is_fp8:  # rows in their experts' order, as its own pairs with TMA have them
            order = _empty(1, torch.int32)[:, 0]
            yield partial(
                quantise,
                *given,
                sorted_token_ids=order,
                num_tokens_post_padded=order[:1],
                num_valid_tokens=_ROWS,
            )
    elif is_fp8 and scales is Scales.CHANNEL:
        quantise = _of("quantization.per_token_quant_fp8", "per_token_quant_fp8")
        yield partial(quantise, _empty(_COLUMNS, x), _empty(_COLUMNS, eight), _empty(1))
    elif is_fp8:
        quantise = _of("quantization.per_tensor_quant_fp8", "per_tensor_quant_fp8")
        scale = _empty(1)[0]
        yield partial(quantise, _empty(_COLUMNS, x), _empty(_COLUMNS, eight), scale, is_static=True)


def _tried(call: partial[object]) -> str:
    name = call.func.__name__
    try:
        call()
    except _Built:
        return f"{name} is built"
    except Exception as error:  # noqa: BLE001  an engine's own code
        return f"{name}: {type(error).__name__}: {error}"
    return f"{name} builds nothing"


def _empty(columns: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    """[_ROWS, columns] without memory."""
    return torch.empty((_ROWS, columns), dtype=dtype, device="meta")


def _of(module: str, name: str) -> Any:
    return getattr(import_module(f"sglang.kernels.ops.{module}"), name)


def _stand_in() -> None:
    """Have SGLang's packages there without what they import, its helpers as far as builds ask for
    them, and calls end where they have built. Raises ModuleNotFoundError where it is not
    installed."""
    for name in ("sglang", _UTILS):
        spec = find_spec(name)
        if spec is None:
            raise ModuleNotFoundError(f"no package {name}")
        sys.modules[name] = module_from_spec(spec)
    cuda = torch.version.cuda or "0.0"
    common = ModuleType(f"{_UTILS}.common")
    vars(common).update(
        is_cuda=lambda: torch.version.cuda is not None and torch.cuda.is_available(),
        get_cuda_version=lambda: tuple(map(int, cuda.split("."))),
    )
    operators = ModuleType(f"{_UTILS}.custom_op")
    vars(operators)["register_custom_op"] = _as_it_is
    for module in (common, operators):
        sys.modules[module.__name__] = module
    utils: Any = import_module("sglang.kernels.jit.utils")
    utils.load_jit = partial(_load_and_end, utils.load_jit)


def _load_and_end(load_jit: Callable[..., object], *args: Any, **keywords: Any) -> None:
    load_jit(*args, **keywords)
    raise _Built


def _as_it_is(function: Any = None, **_: object) -> Any:
    """In place of the decorator that makes an operator of a function, for CUDA tensors alone."""
    return function or _as_it_is
