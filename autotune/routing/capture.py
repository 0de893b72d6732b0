"""Runs a transformers model over texts and records which experts its layers choose.

Text by text, without padding, only the prompt's forward pass through the text decoder: logits and
images are not needed. A model that is larger than the GPU is loaded layer by layer from CPU memory
or disk (accelerate). No code of a checkpoint is run.

Since transformers 5 the module that holds a layer's experts takes the ids as an argument, whatever
the router before it does: softmax, sigmoid, groups, biases. Hooks record that argument. A family
that does it in another way has an entry in ``ROUTERS``.
"""

from __future__ import annotations

import hashlib
import inspect
import logging
import re
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from autotune.errors import ModelError, UsageError
from autotune.extras import needed
from autotune.routing.trace import LayerRows, RoutingTrace

if TYPE_CHECKING:
    from torch import Tensor, nn
    from torch.utils.hooks import RemovableHandle

logger = logging.getLogger(__name__)

ARGUMENTS = ("top_k_index", "router_indices")
"""Names of the ids [tokens, top_k] in experts of transformers: some seventy families in 5.24."""

ROUTERS: Mapping[str, Callable[[Any, Any], Any]] = {
    # (scores, logits): its experts get every token, times its score.
    "Llama4Router": lambda router, output: output[1].topk(router.top_k, dim=1).indices,
}
"""Class name of a router → (module, its output) → ids."""

Take = Callable[[int, "Tensor"], None]
"""Called with a layer's number and its ids [tokens, top_k]."""

LONGEST = 2048
"""Tokens of one sequence at most: a longer text becomes several."""
INTERRUPTED = "interrupted"
"""The note of a recording that Ctrl-C ended: it has fewer tokens than were asked for."""
TokensDone = Callable[[int, int], None]
"""Called with the tokens that are recorded, and how many there will be."""

_NO_MODEL = (
    "Give a folder of a checkpoint in the Hugging Face layout, or its name on the Hub; it must be "
    "one that transformers runs without remote code"
)
_OTHERWISE = "Try another version of transformers, or record from the engine: docs/routing.md"
_FAULTS = (
    RuntimeError,
    ValueError,
    TypeError,
    AttributeError,
    LookupError,
    AssertionError,
    ImportError,
)
"""Errors that transformers' own code raises where a model, or its input, does not suit it."""
_MOST_NAMED = 8

Tables = dict[int, list[NDArray[np.int32]]]


def capture(
    name: str,
    texts: Sequence[str],
    tokens: int,
    *,
    fused_shared_experts: int = 0,
    done: TokensDone = lambda _recorded, _total: None,
) -> RoutingTrace:
    """``tokens`` rows of each MoE layer of the model ``name`` (a folder or a Hub name).

    Fewer where the texts hold fewer, or Ctrl-C came after the first of them, and says so. Fused
    shared experts get further columns, as an engine that fuses them has them: the ids after those
    of the routed experts.

    Raises ModelError where transformers cannot run the model, or where it is not known how it
    chooses experts; UsageError where the texts hold no tokens; KeyboardInterrupt where nothing was
    recorded before it.
    """
    with tempfile.TemporaryDirectory() as offload:
        model, tokenizer = _load(name, offload)
        longest = getattr(model.config.get_text_config(), "max_position_embeddings", None)
        longest = min(longest or LONGEST, LONGEST)
        sequences = list(_sequences_of(tokenizer, texts, tokens, longest))
        experts = experts_of(text_decoder(model))
        layers = record(model, sequences, done)
    rows = next(iter(layers.values()))
    total, recorded = sum(map(len, sequences)), len(rows.ids)
    notes = {
        "model": name,
        "prompts_sha256": hashlib.sha256("\0".join(texts).encode()).hexdigest(),
        "sequences": str(rows.sequences[-1] + 1),
        "tokens": str(recorded),
        "experts": str(experts),
        "top_k": str(rows.ids.shape[1]),
    }
    if recorded < total:
        notes[INTERRUPTED] = "yes"
    elif total < tokens:
        logger.warning("the texts hold %d tokens, not %d: that is what is recorded", total, tokens)
    if fused_shared_experts:
        layers = {
            k: _with_shared(rows, experts, fused_shared_experts) for k, rows in layers.items()
        }
    return RoutingTrace(layers, name, notes)


def _sequences_of(
    tokenizer: Any, texts: Iterable[str], tokens: int, longest: int
) -> Iterator[list[int]]:
    """Token ids of each text, until there are ``tokens`` in all; the last one is cut to fit.

    A text of more than ``longest`` tokens becomes several sequences, none of which sees another.
    """
    whole = (tokenizer(text)["input_ids"] for text in texts)
    pieces = (ids[at : at + longest] for ids in whole for at in range(0, len(ids), longest))
    left = tokens
    for piece in pieces:
        yield piece[:left]
        left -= len(piece)
        if left <= 0:
            return


def record(
    model: Any,
    sequences: Sequence[Sequence[int]],
    done: TokensDone = lambda _recorded, _total: None,
) -> dict[int, LayerRows]:
    """Layer → its choices for every token of every sequence, in order. ``model`` is a transformers
    model. After Ctrl-C the sequences that were whole by then, if there is one.

    Raises ModelError where it is not known how it chooses, where a run fails, and where a layer
    says nothing; UsageError without sequences.
    """
    import torch

    if not sequences:
        raise UsageError("the texts hold no tokens. Give --prompts with a text a line")
    name, decoder = type(model).__name__, text_decoder(model)
    total = sum(map(len, sequences))
    taken: Tables = {}

    def take(layer: int, ids: Tensor) -> None:
        taken.setdefault(layer, []).append(ids.detach().to("cpu", torch.int32).numpy())

    whole: list[Tables] = []
    recorded = 0
    with watching(decoder, take) as layers, torch.inference_mode():
        try:
            for sequence in sequences:
                taken.clear()
                _run(name, decoder, sequence)
                _check_whole(name, layers, taken, len(sequence))
                whole.append(dict(taken))
                recorded += len(sequence)
                done(recorded, total)
        except KeyboardInterrupt:
            if not whole:
                raise
    lengths = [len(sequence) for sequence in sequences[: len(whole)]]
    which = np.repeat(np.arange(len(whole), dtype=np.int32), lengths)
    return {
        layer: LayerRows(np.concatenate([ids for each in whole for ids in each[layer]]), which)
        for layer in sorted(layers)
    }


def text_decoder(model: Any) -> Any:
    """Return the part of a transformers model that has its MoE layers and no head: running it
    computes no logits, and a multi-modal model asks for no images. ``model`` itself where there is
    no such part."""
    if getattr(model.config, "is_encoder_decoder", False):
        return model
    try:
        decoder = model.get_decoder()
    except (AttributeError, NotImplementedError):  # models with a rule of their own
        return model
    return decoder if decoder is not None and moe_modules(decoder) else model


def _run(name: str, decoder: Any, sequence: Sequence[int]) -> None:
    """Return one forward pass. Raises ModelError where it fails."""
    import torch

    # Of an offloaded model the first weights may be nowhere; its hooks then move the ids.
    device = next(decoder.parameters()).device
    ids = torch.tensor([list(sequence)], device="cpu" if device.type == "meta" else device)
    # A whole model's logits of every token may be larger than its layers.
    takes_short = "logits_to_keep" in inspect.signature(decoder.forward).parameters
    short = {"logits_to_keep": 1} if takes_short else {}
    try:
        decoder(input_ids=ids, use_cache=False, **short)
    except _FAULTS as error:
        raise _failed(name, error, _OTHERWISE) from error


def _check_whole(name: str, layers: Iterable[int], taken: Tables, tokens: int) -> None:
    """Raises ModelError where a layer did not choose for exactly the tokens that were run."""
    silent = sorted(set(layers) - set(taken))
    if silent:
        some = ", ".join(map(str, silent[:_MOST_NAMED])) + (" …" if silent[_MOST_NAMED:] else "")
        raise ModelError(
            f"{name}: the experts of layers {some} ran without being told which tokens visit them "
            "in the known way, as a quantised checkpoint's (MXFP4) may. Try the checkpoint in "
            "bf16, or record from the engine: docs/routing.md"
        )
    for layer, tables in sorted(taken.items()):
        rows = sum(map(len, tables))
        if rows != tokens:
            raise ModelError(
                f"layer {layer} chose experts for {rows} rows, not for the {tokens} tokens of a "
                "text: this model routes something else too, and is not recorded"
            )


def _with_shared(rows: LayerRows, experts: int, fused: int) -> LayerRows:
    shared = np.tile(np.arange(experts, experts + fused, dtype=np.int32), (len(rows.ids), 1))
    return LayerRows(np.hstack([rows.ids, shared]), rows.sequences)


def _load(name: str, offload: str) -> tuple[Any, Any]:
    """Return the model, spread over what memory there is, and its tokenizer."""
    with needed("capture", "capture-routing"):
        import accelerate  # noqa: F401  device_map needs it, and says so late
        import transformers
    transformers.logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    try:
        config = transformers.AutoConfig.from_pretrained(name, trust_remote_code=False)
        architecture = (config.architectures or [""])[0]
        loader = getattr(transformers, architecture, transformers.AutoModelForCausalLM)
        model = loader.from_pretrained(
            name, dtype="auto", device_map="auto", offload_folder=offload, trust_remote_code=False
        )
        tokenizer = transformers.AutoTokenizer.from_pretrained(name, trust_remote_code=False)
    except (OSError, *_FAULTS) as error:
        raise _failed(name, error, _NO_MODEL) from error
    return model.eval(), tokenizer


def _failed(name: str, error: Exception, hint: str) -> ModelError:
    logger.debug("%s", name, exc_info=error)
    first = next(iter(str(error).strip().splitlines()), "").rstrip(". ")
    return ModelError(
        f"transformers cannot run {name}: {type(error).__name__}: {first or 'no more is said'}. "
        f"{hint}"
    )


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
