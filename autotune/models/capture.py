"""Runs a transformers model over texts and records which experts its layers choose.

Text by text, without padding, only the prompt's forward pass. A model that is larger than the GPU
is loaded layer by layer from CPU memory or disk (accelerate). No code of a checkpoint is run.
"""

from __future__ import annotations

import hashlib
import inspect
import json
import logging
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from autotune.errors import ModelError, UsageError
from autotune.kernels.recording import LayerRows, Recording
from autotune.models.chosen import watching
from autotune.models.parse import shape_of_config

if TYPE_CHECKING:
    from torch import Tensor

logger = logging.getLogger(__name__)

LONGEST = 2048
"""Tokens of one text at most: a longer one is cut."""
_EXTRA = "pip install 'moe-autotune[capture]'"
_NO_MODEL = (
    "Give a folder of a checkpoint in the Hugging Face layout, or its name on the Hub; it must be "
    "one that transformers runs without remote code"
)


def capture(name: str, texts: Sequence[str], tokens: int) -> Recording:
    """``tokens`` rows of each MoE layer of the model ``name`` (a folder or a Hub name).

    Fewer where the texts hold fewer, and says so. Raises ModelError where transformers cannot
    run the model, or where it is not known how it chooses experts.
    """
    with tempfile.TemporaryDirectory() as offload:
        model, tokenizer = _load(name, offload)
        longest = getattr(model.config.get_text_config(), "max_position_embeddings", LONGEST)
        sequences = list(_sequences(tokenizer, texts, tokens, min(longest, LONGEST)))
        layers = record(model, sequences)
    total = sum(map(len, sequences))
    if total < tokens:
        logger.warning("the texts hold %d tokens, not %d: that is what is recorded", total, tokens)
    notes = {
        "model": name,
        "prompts_sha256": hashlib.sha256("\0".join(texts).encode()).hexdigest(),
        "sequences": str(len(sequences)),
        "tokens": str(total),
    }
    return Recording(layers, name, notes | _sizes(name, model))


def record(model: Any, sequences: Iterable[Sequence[int]]) -> dict[int, LayerRows]:
    """Layer → its choices for every token of every sequence, in order. ``model`` is a transformers
    model; raises ModelError where it is not known how it chooses, or where a run fails."""
    import torch

    chosen: dict[int, list[NDArray[np.int32]]] = {}

    def take(layer: int, ids: Tensor) -> None:
        table = ids.detach().to("cpu", torch.int32).numpy()
        chosen.setdefault(layer, []).append(table)

    # Of an offloaded model the first weights may be nowhere; its hooks then move the ids.
    device = "cpu" if model.device.type == "meta" else model.device
    # Logits of every token may be larger than the layers.
    takes_short = "logits_to_keep" in inspect.signature(model.forward).parameters
    short = {"logits_to_keep": 1} if takes_short else {}
    lengths = []
    with watching(model, take), torch.inference_mode():
        for sequence in sequences:
            ids = torch.tensor([list(sequence)], device=device)
            try:
                model(input_ids=ids, use_cache=False, **short)
            except (RuntimeError, ValueError, NotImplementedError, ImportError) as error:
                raise _failed(type(model).__name__, error) from error
            lengths.append(len(sequence))
    which = np.repeat(np.arange(len(lengths), dtype=np.int32), lengths)
    layers = {layer: LayerRows(np.concatenate(tables), which) for layer, tables in chosen.items()}
    for layer, rows in layers.items():
        if len(rows.ids) != len(which):
            raise ModelError(
                f"layer {layer} chose experts for {len(rows.ids)} rows, not for the {len(which)} "
                "tokens of the texts: this model routes something else too, and is not recorded"
            )
    return dict(sorted(layers.items()))


def texts_of(file: Path | None) -> list[str]:
    """A text a line; of a .jsonl file the line's "prompt" or "text", or the line where it is a
    string. Without a file the topics of Python's own help: English prose and code.

    Raises UsageError for a file that cannot be read or holds no text.
    """
    if file is None:
        from pydoc_data.topics import topics

        return [str(text) for _, text in sorted(topics.items())]
    try:
        lines = [line for line in file.read_text(encoding="utf-8").splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"--prompts {file} cannot be read: {error}") from error
    if not lines:
        raise UsageError(f"--prompts {file} is empty; it should hold a text a line")
    return [_json_text(file, line) for line in lines] if file.suffix == ".jsonl" else lines


def _json_text(file: Path, line: str) -> str:
    try:
        value = json.loads(line)
    except ValueError:
        value = None
    text = value if isinstance(value, str) else None
    if isinstance(value, dict):
        text = value.get("prompt", value.get("text"))
    if not isinstance(text, str):
        raise UsageError(
            f'--prompts {file}: {line[:60]!r} is no JSON string and no object with a "prompt" or '
            '"text" that is one'
        )
    return text


def _load(name: str, offload: str) -> tuple[Any, Any]:
    """The model, spread over what memory there is, and its tokenizer."""
    try:
        import accelerate  # noqa: F401  device_map needs it, and says so late
        import transformers

        transformers.logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    except ImportError as error:
        raise ModelError(
            f"capture-routing runs the model with transformers: {error}. Try {_EXTRA}"
        ) from error
    try:
        config = transformers.AutoConfig.from_pretrained(name, trust_remote_code=False)
        architecture = (config.architectures or [""])[0]
        loader = getattr(transformers, architecture, transformers.AutoModelForCausalLM)
        model = loader.from_pretrained(
            name, dtype="auto", device_map="auto", offload_folder=offload, trust_remote_code=False
        )
        tokenizer = transformers.AutoTokenizer.from_pretrained(name, trust_remote_code=False)
    except (OSError, ValueError, KeyError, RuntimeError, ImportError) as error:
        raise _failed(name, error) from error
    return model.eval(), tokenizer


def _sizes(name: str, model: Any) -> dict[str, str]:
    """How many experts the config names; nothing where it does not say so in a known way."""
    try:
        return {"experts": str(shape_of_config(name, model.config.to_dict()).experts)}
    except ModelError:
        return {}


def _failed(name: str, error: Exception) -> ModelError:
    first = next(iter(str(error).strip().splitlines()), type(error).__name__).rstrip(". ")
    return ModelError(f"transformers cannot run {name}: {first}. {_NO_MODEL}")


def _sequences(
    tokenizer: Any, texts: Iterable[str], tokens: int, longest: int
) -> Iterator[list[int]]:
    """Token ids of each text, cut to ``longest``, until there are ``tokens`` in all; the last one
    is cut to fit."""
    left = tokens
    for text in texts:
        encoded = tokenizer(text, truncation=True, max_length=min(longest, left))
        ids: list[int] = encoded["input_ids"]
        if ids:
            yield ids
        left -= len(ids)
        if left <= 0:
            return
