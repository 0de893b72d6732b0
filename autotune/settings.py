"""argv and environment become one frozen object, once; nothing below reads either.

Except for the masks of the GPU drivers (CUDA_VISIBLE_DEVICES): they hold for a process, not for a
run that may be resumed elsewhere, so whoever counts GPUs reads them.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from enum import Enum
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

from autotune.backends.gpu.providers import AUTO, OURS, chosen_providers
from autotune.backends.protocol import MeasurerOptions
from autotune.engines import DEFAULT_TOKENS, ENGINES
from autotune.errors import UsageError
from autotune.spec.problem import KernelMode
from autotune.spec.ranges import EXPERTS, PROCESSES, RANKS, SECONDS, SEEDS, TOKENS, Range
from autotune.studies.search.pruning import HOPELESS
from autotune.studies.selection.select import Robust

ALL_GPUS = "all"
Settings = TypeVar("Settings")

_RANGES: Mapping[str, tuple[str, Range]] = {
    "tp_size": ("--tp-size", RANKS),
    "ep_size": ("--ep-size", RANKS),
    "ep_rank": ("--ep-rank", Range(0, RANKS.most - 1)),
    "ep_num_redundant_experts": ("--ep-num-redundant-experts", Range(0, EXPERTS.most)),
    "batch_sizes": ("--batch-size", TOKENS),
    "batch_weights": ("--batch-size", Range(0, 1, is_real=True)),
    "timeout_s": ("--timeout", SECONDS),
    "run_timeout_s": ("--run-timeout", SECONDS),
    "compile_timeout_s": ("--compile-timeout", SECONDS),
    "jobs": ("--jobs", PROCESSES),
    "compile_jobs": ("--compile-jobs", Range(0, PROCESSES.most)),
    "seed": ("--seed", SEEDS),
    "trials": ("--trials", Range(1, 1_000_000)),
    "limit": ("--limit", Range(1, 1_000_000)),
    "stop_gain": ("--stop-gain", Range(0, 0.99, is_real=True)),
    "give_up_at": ("--give-up-at", Range(1.001, 1_000_000, is_real=True)),
}
"""Field → its flag and the numbers that it may have, whoever gives them; None where it is the
default."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelSettings:
    """The layer that is tuned, and its batch sizes."""

    model: str | None = None
    shape: str | None = None
    tp_size: int = 1
    ep_size: int = 1
    ep_rank: int | None = None
    """The rank whose experts are tuned; None for the one with the most rows."""
    dtype: str = "auto"
    ep_num_redundant_experts: int = 0
    """Experts that are there twice under expert parallelism."""
    per_channel_quant: bool = False
    disable_shared_experts_fusion: bool = False
    batch_sizes: Sequence[int] = DEFAULT_TOKENS
    batch_weights: Sequence[float] = ()
    """The share of a server's time that each batch size stands for; empty where none is known."""
    routing: str = "uniform"
    """One routing or, with commas, several; a recording by its digest."""
    topk_ids_dir: str | None = None
    """Folder of the recording."""
    engine_sources: tuple[Path, ...] = ()
    """Wheels, or folders with them or with unpacked ones, whose code is asked for file names before
    that of installed engines; "none" alone: no code is asked."""

    @property
    def label(self) -> str:
        """The model as it is split, in a few words: "DeepSeek-V3 TP8"."""
        name = self.name.rstrip("/")
        return self._labelled(name.rpartition("/")[2] if self.model else name)

    @property
    def whole_label(self) -> str:
        """The same with all of the model's name: "deepseek-ai/DeepSeek-V3 TP8"."""
        return self._labelled(self.name.rstrip("/"))

    @property
    def name(self) -> str:
        """The model as it was named: on the Hub, by a path, or by its shape."""
        return self.model or self.shape or ""

    def _labelled(self, name: str) -> str:
        words = {
            f"rank {self.ep_rank}": self.ep_rank is not None,
            f"{self.ep_num_redundant_experts} redundant": self.ep_num_redundant_experts > 0,
            self.dtype: self.dtype != "auto",
            "per channel": self.per_channel_quant,
            "not fused": self.disable_shared_experts_fusion,
        }
        split = split_words(name, self.tp_size, self.ep_size)
        return " ".join([split, *(word for word, is_said in words.items() if is_said)])

    def __post_init__(self) -> None:
        if bool(self.model) == bool(self.shape):
            raise UsageError("give either --model NAME or --shape E=..,topk=..,hidden=..,…")
        for name in ("batch_sizes", "batch_weights"):
            object.__setattr__(self, name, several(name, getattr(self, name)))
        _check_numbers(self)
        redundant = self.ep_num_redundant_experts
        if redundant and self.topk_ids_dir:
            raise UsageError(
                f"--ep-num-redundant-experts is {redundant}; it is 0 with a recording, which does "
                "not say what copy of an expert a token visits"
            )
        if not self.batch_sizes:
            raise UsageError("--batch-size needs at least one size, or leave it out for all 18")
        if self.batch_weights and len(self.batch_weights) != len(self.batch_sizes):
            raise UsageError(
                f"{len(self.batch_weights)} shares of time for {len(self.batch_sizes)} batch sizes"
            )

    @property
    def shares(self) -> dict[int, float]:
        """Batch size → the share of a server's time that it stands for; empty without any."""
        return dict(zip(self.batch_sizes, self.batch_weights, strict=bool(self.batch_weights)))


def several(name: str, values: object) -> tuple[Any, ...]:
    """Return the values of this name as a tuple. Raises UsageError where they are not several."""
    if isinstance(values, str) or not isinstance(values, Iterable):
        raise UsageError(f"{name}={values!r:.100}: give several, as [16, 64], or one as [16]")
    return tuple(values)


def split_words(name: str, tp_size: object, ep_size: object) -> str:
    """Return a model's name with the ranks that it is split over: "DeepSeek-V3 TP8"."""
    sizes = (("TP", tp_size), ("EP", ep_size))
    words = [f"{flag}{size}" for flag, size in sizes if isinstance(size, int) and size > 1]
    return " ".join([name, *words])


@dataclass(frozen=True, slots=True, kw_only=True)
class MeasuringSettings:
    """The settings of every command that measures configs of a space."""

    model: ModelSettings
    device: str
    """Selector: cuda, estimate:GPU or replay:FILE, never auto."""
    kernel: KernelMode = KernelMode.FUSED
    provider: str = AUTO
    """Owner of the kernel that is measured: ours, an installed engine, or each engine's own."""
    engines: tuple[str, ...] = ("sglang", "vllm")
    l2: str = "cold"
    timeout_s: float | None = None
    run_timeout_s: float = 120.0
    cache_dir: Path = Path(".cache")
    jobs: int = 1
    """Processes that measure where no GPU is needed."""
    seed: int = 0

    def __post_init__(self) -> None:
        _check_numbers(self)

    @property
    def providers(self) -> dict[str, str]:
        """The provider whose kernel is measured for each engine."""
        on_gpu = self.device.startswith("cuda")
        return chosen_providers(self.provider, self.engines, on_gpu=on_gpu)

    @property
    def measurer_options(self) -> MeasurerOptions:
        """The options that a measurer is opened with. Where each engine's own kernel is measured,
        and they are several, a run opens one for each; this is ours."""
        folder = self.model.topk_ids_dir
        chosen = set(self.providers.values())
        return MeasurerOptions(
            cache_dir=self.cache_dir,
            cold_l2=self.l2 == "cold",
            topk_ids_dir=Path(folder) if folder else None,
            provider=chosen.pop() if len(chosen) == 1 else OURS,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class RunSettings(MeasuringSettings):
    """Everything that a run was started with. ``resume`` goes on with the same."""

    trials: int = 60
    sampler: str = "surrogate"
    stop_gain: float = 0.005
    """A study ends early when its next trial is expected to save less than this share."""
    robust: Robust = Robust.MEAN
    """The criterion by which a config wins where there are several routings."""
    output_dir: Path = Path("configs")
    warm_starts: tuple[Path, ...] = ()
    """Engine files, or folders of them, whose configs are measured early."""
    gpus: str = ALL_GPUS
    """Indices, as "0,1", that are workers' where the device is cuda; or "all"."""
    compile_jobs: int | None = None
    """Processes that compile ahead of GPUs; 0 for none, None for a core each but the GPUs'."""
    compile_timeout_s: float = 60.0
    more_models: tuple[ModelSettings, ...] = ()
    """Models that are tuned with ``model``, by the same workers."""

    def __post_init__(self) -> None:
        MeasuringSettings.__post_init__(self)
        if self.more_models and any(model.topk_ids_dir for model in self.models):
            raise UsageError(
                "--topk-ids-dir with several models: a recording is of one model's experts. Tune "
                "that one alone"
            )
        if self.robust is Robust.WORST and "," not in self.model.routing:
            raise UsageError(
                f"--robust worst with --routing {self.model.routing}: the worst loss is over "
                "several routings. Name them, as --routing uniform,zipf:1, or leave --robust out"
            )
        self._check_gpus()
        if self.provider not in (AUTO, OURS):
            self._check_provider()

    def _check_gpus(self) -> None:
        if self.gpus == ALL_GPUS:
            return
        numbers = self.gpus.split(",")
        if not all(number.isdecimal() for number in numbers) or len(set(numbers)) < len(numbers):
            raise UsageError(f"--gpus {self.gpus!r}: give different indices as 0,1 or the word all")
        if self.device != "cuda":
            raise UsageError(
                f"--gpus {self.gpus} with --device {self.device}: it chooses among those of "
                "--device cuda; estimates and recordings take --workers N"
            )

    def _check_provider(self) -> None:
        """An engine's own kernel is measured on a GPU, for that engine's files alone."""
        flag = f"--provider {self.provider}"
        if not self.device.startswith("cuda"):
            raise UsageError(
                f"{flag} with --device {self.device}: an engine's own kernel is measured on a GPU. "
                "Leave --provider out to estimate, or run where a GPU is"
            )
        engine = ENGINES[self.provider]
        if self.kernel is KernelMode.SEPARATE and not engine.has_down_file:
            raise UsageError(
                f"{flag} with --kernel {self.kernel.value}: {engine.title} launches both GEMMs "
                "with one config. Leave one of them out"
            )
        if self.engines != (self.provider,):
            raise UsageError(
                f"{flag} with --engine {' '.join(self.engines)}: what is measured with its kernel "
                f"is for its files alone. Try --engine {self.provider}"
            )

    @property
    def models(self) -> tuple[ModelSettings, ...]:
        """Every model that is tuned."""
        return (self.model, *self.more_models)

    def of_model(self, model: ModelSettings | None) -> RunSettings:
        """Return the settings that tune this model alone; None: the only one."""
        return self if model is None else replace(self, model=model, more_models=())

    def as_json(self) -> dict[str, Any]:
        """Return only JSON types; ``settings_from`` is the inverse. More models and shares of time
        are left out where there are none: then versions read it that know of neither."""
        stored = dict(json.loads(json.dumps(asdict(self), default=str)))
        if not self.model.batch_weights:
            del stored["model"]["batch_weights"]
        if not self.more_models:
            del stored["more_models"]
        return stored


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordSettings(MeasuringSettings):
    """Everything that ``record`` is started with."""

    output: Path | None = None
    """The recording's file; None: named by device and problem, in the current folder."""
    like: Path | None = None
    """A recording whose configs are measured, as far as the space has them."""
    limit: int | None = None
    """Configs of a space that are measured, chosen at random; None: all."""
    give_up_at: float = HOPELESS
    """A config whose first sample takes so many times the best's gets no more samples."""
    compile_jobs: int = 1

    def __post_init__(self) -> None:
        MeasuringSettings.__post_init__(self)
        if self.output is not None and self.output.suffix != ".npz":
            raise UsageError(f"--output {self.output}: a recording is an .npz file; name it so")
        PROCESSES.check("--compile-jobs", self.compile_jobs)
        if "," in self.model.routing:
            raise UsageError(
                f"--routing {self.model.routing}: a recording is of one routing. Record each "
                "into a file of its own"
            )


def _check_numbers(settings: ModelSettings | MeasuringSettings) -> None:
    """Raise UsageError for a number outside its field's range."""
    for field in (field for field in fields(settings) if field.name in _RANGES):
        flag, allowed = _RANGES[field.name]
        value = getattr(settings, field.name)
        for number in value if isinstance(value, tuple) else (value,):
            if number is not None or field.default is not None:
                allowed.check(flag, number)


def settings_from(kind: type[Settings], values: Mapping[str, Any]) -> Settings:
    """Make settings of a class from plain values, as JSON or flags have them. Fields that are not
    given, as by an older version, take their defaults; a name that is no field is a UsageError."""
    kinds = get_type_hints(kind)
    unknown = set(values) - set(kinds)
    if unknown:
        raise UsageError(f"stored settings have unknown fields: {', '.join(sorted(unknown)):.200}")
    return kind(**{name: _typed(kinds[name], value) for name, value in values.items()})


def _typed(kind: Any, value: Any) -> Any:
    """Turn a plain value into the type of its field; a value of that type stays as it is."""
    if get_origin(kind) is UnionType:
        [other] = set(get_args(kind)) - {NoneType}
        return None if value is None else _typed(other, value)
    if get_origin(kind) in (tuple, Sequence) and isinstance(value, list | tuple):
        return tuple(_typed(get_args(kind)[0], each) for each in value)
    if kind in (int, float) or isinstance(value, get_origin(kind) or kind):
        return value  # numbers are held against their ranges
    if not issubclass(get_origin(kind) or kind, (Enum, Path, ModelSettings)):
        raise UsageError(f"{str(value)!r:.200} came where {kind.__name__} is needed")
    return settings_from(kind, value) if issubclass(kind, ModelSettings) else kind(value)
