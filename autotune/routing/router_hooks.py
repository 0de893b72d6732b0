"""Hooks on a transformers model where it says which experts a token visits.

Since transformers 5 the module that holds a layer's experts takes the ids as an argument, whatever
the router before it does: softmax, sigmoid, groups, biases. That argument is what is recorded. A
family that does it in another way has an entry in ``ROUTERS``. Every attribute here is read by
name: importing this needs neither torch nor transformers.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from autotune.errors import ModelError

if TYPE_CHECKING:
    from torch import Tensor, nn
    from torch.utils.hooks import RemovableHandle

ARGUMENTS = ("top_k_index", "router_indices")
"""Names of the ids [tokens, top_k] in experts of transformers: some seventy families in 5.24."""

ROUTERS: Mapping[str, Callable[[Any, Any], Any]] = {
    # (scores, logits): its experts get every token, times its score.
    "Llama4Router": lambda router, output: output[1].topk(router.top_k, dim=1).indices,
}
"""Class name of a router → (module, its output) → ids."""

Take = Callable[[int, "Tensor"], None]
"""Called with a layer's number and its ids [tokens, top_k]."""


@contextmanager
def watching(model: nn.Module, take: Take) -> Iterator[Mapping[int, nn.Module]]:
    """While it lasts, ``take`` sees what every MoE layer chooses; yields the layers that are
    watched. Raises ModelError where the model has none that is known here."""
    modules = _known_modules(model)
    handles = [_watch(layer, module, take) for layer, module in modules.items()]
    try:
        yield modules
    finally:
        for handle in handles:
            handle.remove()


def moe_modules(model: nn.Module) -> dict[int, nn.Module]:
    """Layer → its module that knows the ids. Raises ModelError where a layer has several, or such
    a module is in no layer."""
    found: dict[int, nn.Module] = {}
    for name, module in model.named_modules():
        if type(module).__name__ not in ROUTERS and _argument(module) is None:
            continue
        if found.setdefault(_layer(name), module) is not module:
            raise ModelError(
                f"{type(model).__name__} has several groups of experts in one layer; only models "
                "with one are recorded"
            )
    return found


def experts_of(model: nn.Module) -> int:
    """Routed experts of each layer, as its modules say. Raises ModelError where the model has no
    layer that is known here, where they do not say so, or where they differ."""
    counts = {getattr(module, "num_experts", None) for module in _known_modules(model).values()}
    if len(counts) == 1 and isinstance(count := counts.pop(), int):
        return count
    raise ModelError(
        f"{type(model).__name__}: its layers with experts should all have one num_experts, and do "
        "not: they may have experts that compute nothing. Record from the engine: docs/routing.md"
    )


def _watch(layer: int, module: nn.Module, take: Take) -> RemovableHandle:
    chosen = ROUTERS.get(type(module).__name__)
    if chosen is not None:
        return module.register_forward_hook(lambda m, _, output: take(layer, chosen(m, output)))
    signature, argument = inspect.signature(module.forward), _argument(module)
    assert argument is not None, "moe_modules finds those that have one"

    def before(_: nn.Module, args: Any, kwargs: Any) -> None:
        take(layer, signature.bind(*args, **kwargs).arguments[argument])

    return module.register_forward_pre_hook(before, with_kwargs=True)


def _argument(module: nn.Module) -> str | None:
    """Return the argument of the module's forward that holds the ids."""
    parameters = inspect.signature(module.forward).parameters
    return next((name for name in ARGUMENTS if name in parameters), None)


def _layer(name: str) -> int:
    """Return the first number in a module's path: model.layers.3.mlp.experts is of layer 3."""
    match = re.search(r"(?:^|\.)(\d+)(?:\.|$)", name)
    if match is None:
        raise ModelError(f"module {name!r} chooses experts, but is in no numbered layer")
    return int(match[1])


def _known_modules(model: nn.Module) -> dict[int, nn.Module]:
    if modules := moe_modules(model):
        return modules
    raise ModelError(
        f"{type(model).__name__}: no module here says which experts it chooses. Known are models "
        f"of transformers 5 whose experts take {' or '.join(ARGUMENTS)} (Mixtral, Qwen 2 and 3, "
        "DeepSeek V2 and V3, GLM-4.5, DBRX, Jamba, OLMoE, gpt-oss and others), and "
        f"{', '.join(ROUTERS)}. Is it a dense model? Else record from the engine that serves it: "
        "docs/routing.md"
    )
