"""Where a transformers model says which experts a token visits.

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
"""How the experts of transformers call the ids [tokens, top_k]: some seventy families in 5.24."""

ROUTERS: Mapping[str, Callable[[Any, Any], Any]] = {
    # (scores, logits): its experts get every token, times its score.
    "Llama4Router": lambda router, output: output[1].topk(router.top_k, dim=1).indices,
}
"""Class name of a router → (module, its output) → ids."""

Take = Callable[[int, "Tensor"], None]
"""Called with a layer's number and its ids [tokens, top_k]."""


@contextmanager
def watching(model: nn.Module, take: Take) -> Iterator[None]:
    """While it lasts, ``take`` sees what every MoE layer chooses. Raises ModelError where the
    model has no layer that is known here."""
    handles: list[RemovableHandle] = []
    try:
        layers = [_watch(name, module, take, handles) for name, module in model.named_modules()]
        found = [layer for layer in layers if layer is not None]
        if not found:
            raise ModelError(_unknown(model))
        if len(set(found)) < len(found):
            raise ModelError(
                f"{type(model).__name__} has several groups of experts in one layer; only models "
                "with one are recorded"
            )
        yield
    finally:
        for handle in handles:
            handle.remove()


def _watch(name: str, module: nn.Module, take: Take, handles: list[RemovableHandle]) -> int | None:
    """The layer's number where the module is one that knows the ids."""
    chosen = ROUTERS.get(type(module).__name__)
    if chosen is not None:
        layer = _layer(name)
        handles.append(
            module.register_forward_hook(lambda m, _, output: take(layer, chosen(m, output)))
        )
        return layer
    signature = inspect.signature(module.forward)
    argument = next((name for name in ARGUMENTS if name in signature.parameters), None)
    if argument is None:
        return None
    layer = _layer(name)

    def before(_: nn.Module, args: Any, kwargs: Any) -> None:
        take(layer, signature.bind(*args, **kwargs).arguments[argument])

    handles.append(module.register_forward_pre_hook(before, with_kwargs=True))
    return layer


def _layer(name: str) -> int:
    """The first number in a module's path: model.layers.3.mlp.experts is of layer 3."""
    match = re.search(r"(?:^|\.)(\d+)(?:\.|$)", name)
    if match is None:
        raise ModelError(f"module {name!r} chooses experts, but is in no numbered layer")
    return int(match[1])


def _unknown(model: nn.Module) -> str:
    return (
        f"{type(model).__name__}: no module here says which experts it chooses. Known are models "
        f"of transformers 5 whose experts take {' or '.join(ARGUMENTS)} (Mixtral, Qwen 2 and 3, "
        "DeepSeek V2 and V3, GLM-4.5, DBRX, Jamba, OLMoE, gpt-oss and others), and "
        f"{', '.join(ROUTERS)}. Is it a dense model? Else record from the engine that serves it: "
        "docs/routing.md"
    )
