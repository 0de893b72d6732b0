"""argv and environment become one frozen object, once; nothing below reads either."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from autotune.devices.options import MeasurerOptions
from autotune.engines import DEFAULT_TOKENS
from autotune.errors import UsageError
from autotune.kernels.problem import Kernel

ALL_GPUS = "all"


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelSettings:
    """Which layer is tuned: the flags that ``run``, ``bench`` and ``--dry-run`` share."""

    model: str | None = None
    shape: str | None = None
    tp_size: int = 1
    ep_size: int = 1
    ep_rank: int | None = None
    """None: the rank with the most rows."""
    dtype: str = "auto"
    per_channel_quant: bool = False
    disable_shared_experts_fusion: bool = False
    batch_sizes: tuple[int, ...] = DEFAULT_TOKENS

    def __post_init__(self) -> None:
        if (self.model is None) == (self.shape is None):
            raise UsageError("give either --model NAME or --shape E=..,topk=..,hidden=..,…")
        for flag, value in (("--tp-size", self.tp_size), ("--ep-size", self.ep_size)):
            if value < 1:
                raise UsageError(f"{flag} is {value}; it must be at least 1")
        for size in self.batch_sizes:
            if size < 1:
                raise UsageError(f"--batch-size {size}: a batch has at least 1 token")
        if not self.batch_sizes:
            raise UsageError("--batch-size needs at least one size, or leave it out for all 18")


@dataclass(frozen=True, slots=True, kw_only=True)
class RunSettings:
    """Everything that a run was started with. ``resume`` goes on with the same."""

    model: ModelSettings
    device: str
    """Selector: cuda, estimate:GPU or replay:FILE, never auto."""
    kernel: Kernel = Kernel.FUSED
    l2: str = "cold"
    trials: int = 60
    timeout_s: float | None = None
    run_timeout_s: float = 120.0
    sampler: str = "surrogate"
    stop_gain: float = 0.005
    """A study ends early when its next trial is expected to save less than this share."""
    engines: tuple[str, ...] = ("sglang", "vllm")
    output_dir: Path = Path("configs")
    cache_dir: Path = Path(".cache")
    jobs: int = 1
    """Workers where no GPU is needed."""
    gpus: str = ALL_GPUS
    """Indices, as "0,1", that are workers' where the device is cuda; or "all"."""
    compile_jobs: int | None = None
    """Processes that compile ahead of GPUs; 0 for none, None for a core each but the GPUs'."""
    compile_timeout_s: float = 60.0
    seed: int = 0

    def __post_init__(self) -> None:
        if self.trials < 1:
            raise UsageError(f"--trials is {self.trials}; at least 1 config must be measured")
        if self.timeout_s is not None and self.timeout_s <= 0:
            raise UsageError(f"--timeout is {self.timeout_s} s; it must be above 0")
        if not 0 <= self.stop_gain < 1:
            raise UsageError(f"--stop-gain is {self.stop_gain}; it is a share: 0 (never) to 1")
        if self.jobs < 1:
            raise UsageError(f"--workers is {self.jobs}; it must be at least 1")
        if self.compile_jobs is not None and self.compile_jobs < 0:
            raise UsageError(f"--compile-jobs is {self.compile_jobs}; it must be at least 0 (none)")
        if self.compile_timeout_s <= 0:
            raise UsageError(f"--compile-timeout is {self.compile_timeout_s} s; it must be above 0")
        self._check_gpus()

    def _check_gpus(self) -> None:
        if self.gpus == ALL_GPUS:
            return
        numbers = self.gpus.split(",")
        if not all(number.isdigit() for number in numbers) or len(set(numbers)) < len(numbers):
            raise UsageError(f"--gpus {self.gpus!r}: give different indices as 0,1 or the word all")
        if self.device != "cuda":
            raise UsageError(
                f"--gpus {self.gpus} with --device {self.device}: it chooses among those of "
                "--device cuda; estimates and recordings take --workers N"
            )

    @property
    def measurer_options(self) -> MeasurerOptions:
        """What the measurer is opened with."""
        return MeasurerOptions(cache_dir=self.cache_dir, cold_l2=self.l2 == "cold")

    def as_json(self) -> dict[str, Any]:
        """Only JSON types; ``from_json`` is its inverse."""
        data = asdict(self)
        data["output_dir"] = str(self.output_dir)
        data["cache_dir"] = str(self.cache_dir)
        data["kernel"] = self.kernel.value
        data["engines"] = list(self.engines)
        data["model"]["batch_sizes"] = list(self.model.batch_sizes)
        return data

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> RunSettings:
        """Unknown fields (of a newer version) are a UsageError, missing ones take defaults."""
        unknown = set(data) - {field.name for field in fields(cls)}
        if unknown:
            raise UsageError(f"stored settings have unknown fields: {', '.join(sorted(unknown))}")
        model = dict(data["model"])
        model["batch_sizes"] = tuple(model["batch_sizes"])
        values = dict(data)
        values["model"] = ModelSettings(**model)
        values["kernel"] = Kernel(data.get("kernel", Kernel.FUSED))
        values["engines"] = tuple(data["engines"])
        values["output_dir"] = Path(data["output_dir"])
        values["cache_dir"] = Path(data["cache_dir"])
        return cls(**values)
