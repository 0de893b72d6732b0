"""What is asked of an engine's own code: a checkpoint, and how it is served."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

from autotune.engines.own_code.pieces import Source, reads
from autotune.models.problems import Parallelism
from autotune.models.shape import WeightQuantization
from autotune.spec.problem import Dtype

NESTING = ("thinker_config", "text_config", "llm_config", "language_config")
TORCH = SimpleNamespace(float="float32", float32="float32", float16="float16", bfloat16="bfloat16")
"""Stands for torch, of which nothing but types is asked."""

_PLAIN = {Dtype.BF16: "bfloat16", Dtype.FP16: "float16", Dtype.FP32: "float32"}
_METHODS = {"compressed-tensors": "compressed_tensors", "modelopt": "modelopt_fp8"}
"""A checkpoint's word for its method → SGLang's, where they differ."""


class RefusalError(Exception):
    """The engine's code raises: it would not load this, or reads no file for it."""


class UnknownModelError(RefusalError):
    """The engine has no class for this model, or one that asks for more than its config says."""


@dataclass(frozen=True, slots=True)
class Stored:
    """How a checkpoint keeps its experts, in the words of the engines' flags."""

    flag: str | None = None
    """``use_…`` of the dtype function; None: not quantised."""
    block: list[int] | None = None
    per_channel: bool = False
    name: str | None = None
    """SGLang's name of the method; None: not quantised."""
    plain: str = "bfloat16"
    """Torch's name of the type of what is not quantised."""

    @classmethod
    def of(cls, stored: WeightQuantization) -> Stored:
        """Return the flags that a quantisation comes to."""
        dtype = stored.dtype or Dtype.BF16
        if not dtype.is_quantized:
            return cls(plain=_PLAIN[dtype])
        return cls(
            flag=f"use_{dtype.value}",
            block=list(stored.block_shape) if stored.block_shape else None,
            per_channel=stored.per_channel_quant,
            name=_METHODS.get(stored.method, stored.method),
        )

    def flags(self, *without: str) -> dict[str, Any]:
        """Return the arguments of the dtype function, which may lack a flag."""
        flag = {} if self.flag is None or self.flag in without else {self.flag: True}
        return {"dtype": self.plain, **flag}


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """A checkpoint's config, and how it is served."""

    config: Mapping[str, Any]
    stored: Stored
    device_name: str
    tp_size: int
    """Ranks of the layer."""
    ep_size: int
    """Parts into which those ranks split the experts."""
    redundant_experts: int = 0
    fuses: bool = True
    """False with ``--disable-shared-experts-fusion``."""
    down: bool = False
    """Ask for the down GEMM's own file."""

    @classmethod
    def of(
        cls,
        config: Mapping[str, Any],
        stored: WeightQuantization,
        parallel: Parallelism,
        *,
        device_name: str,
        fuses: bool = True,
    ) -> Question:
        """Make it of what a problem is made of."""
        return cls(
            config=config,
            stored=Stored.of(stored),
            device_name=device_name,
            tp_size=max(parallel.tp_size, parallel.ep_size),
            ep_size=parallel.ep_size,
            redundant_experts=parallel.redundant_experts,
            fuses=fuses,
        )

    @property
    def text(self) -> Mapping[str, Any]:
        """The language model's part."""
        return text_part(self.config)

    @property
    def architecture(self) -> str:
        return str((self.config.get("architectures") or [""])[0])


def text_part(config: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the language model's part of a config."""
    section = config
    for key in NESTING:
        section = section[key] if isinstance(section.get(key), Mapping) else section
    return section


class ConfigView:
    """A config's fields as attributes; a top level lends what its text part has, as transformers'
    nested configs do."""

    def __init__(self, fields: Mapping[str, Any]) -> None:
        self.__dict__["fields"] = fields

    def __getattr__(self, name: str) -> Any:
        fields = self.__dict__["fields"]
        if name == "encoder_only":
            return False
        if name in fields:
            value = fields[name]
            return ConfigView(value) if isinstance(value, Mapping) else value
        inner = fields.get("text_config")
        if isinstance(inner, Mapping) and name in inner:
            return getattr(ConfigView(inner), name)
        raise AttributeError(name)


def asked(refused_as: str, function: Any, *arguments: Any, **named: Any) -> Any:
    """Call the engine's code; what it raises is its refusal."""
    try:
        return function(*arguments, **named)
    except (ValueError, AssertionError) as error:
        text = " ".join(str(error).split()) or "assert"
        raise RefusalError(f"{refused_as}: {type(error).__name__}: {text}") from error


def layer_of(source: Source, block: tuple[str, str], names: dict[str, Any]) -> dict[str, Any]:
    """Return the sizes that a model's class gives to its layer of experts."""
    try:
        made = asked("layer", _layer_arguments, source, block, names)
    except AttributeError as error:
        raise UnknownModelError(f"layer: the config has no {error}") from error
    if not all(isinstance(value, int) for value in made.values()):
        raise RefusalError(f"layer: {made}")
    return dict(made)


def _layer_arguments(
    source: Source, block: tuple[str, str], names: dict[str, Any]
) -> dict[str, Any]:
    """Return what a model's class gives to its layer of experts, by keyword."""
    file, name = block
    method, call = source.call_in(file, name, "num_experts", "intermediate_size")
    wanted = {"num_experts", "intermediate_size", "hidden_size", "num_fused_shared_experts"}
    given = {k.arg: k.value for k in call.keywords if k.arg in wanted}
    needed = set().union(*(reads(value) for value in given.values()))
    scope = source.part_of(file, method, needed, names, before=call.lineno)
    return {str(k): source.value(file, value, scope) for k, value in given.items()}
