"""argv and environment become one frozen object, once; nothing below reads either."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from autotune.backends.options import MeasurerOptions
from autotune.engines import DEFAULT_TOKENS
from autotune.errors import UsageError
from autotune.spec.problem import KernelMode
from autotune.studies.search.pruning import HOPELESS
from autotune.studies.selection.robust import Robust

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
    routing: str = "uniform"
    """One or, with commas, several; a recording by its digest (see kernels.routing)."""
    topk_ids_dir: str | None = None
    """Where the recording lies."""

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
    kernel: KernelMode = KernelMode.FUSED
    provider: str = "autotune"
    """Whose kernel is measured: ours, or an installed engine's own."""
    l2: str = "cold"
    trials: int = 60
    timeout_s: float | None = None
    run_timeout_s: float = 120.0
    sampler: str = "surrogate"
    stop_gain: float = 0.005
    """A study ends early when its next trial is expected to save less than this share."""
    robust: Robust = Robust.MEAN
    """What of a config counts where there are several routings."""
    engines: tuple[str, ...] = ("sglang", "vllm")
    output_dir: Path = Path("configs")
    warm_starts: tuple[Path, ...] = ()
    """Engine files, or folders of them, whose configs are measured early."""
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
        if self.robust is Robust.WORST and "," not in self.model.routing:
            raise UsageError(
                f"--robust worst with --routing {self.model.routing}: the worst loss is over "
                "several routings. Name them, as --routing uniform,zipf:1, or leave --robust out"
            )
        if self.jobs < 1:
            raise UsageError(f"--workers is {self.jobs}; it must be at least 1")
        if self.compile_jobs is not None and self.compile_jobs < 0:
            raise UsageError(f"--compile-jobs is {self.compile_jobs}; it must be at least 0 (none)")
        if self.compile_timeout_s <= 0:
            raise UsageError(f"--compile-timeout is {self.compile_timeout_s} s; it must be above 0")
        self._check_gpus()
        if self.provider != "autotune":
            self._check_provider()

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

    def _check_provider(self) -> None:
        """An engine's own kernel is measured on a GPU, for that engine's files alone."""
        flag = f"--provider {self.provider}"
        if not self.device.startswith("cuda"):
            raise UsageError(
                f"{flag} with --device {self.device}: an engine's own kernel is measured on a GPU. "
                "Leave --provider out to estimate, or run where a GPU is"
            )
        if self.kernel is not KernelMode.FUSED:
            raise UsageError(
                f"{flag} with --kernel {self.kernel.value}: an engine's launch takes one config "
                "for both GEMMs. Leave one of them out"
            )
        if self.engines != (self.provider,):
            raise UsageError(
                f"{flag} with --engine {' '.join(self.engines)}: what is measured with its kernel "
                f"is for its files alone. Try --engine {self.provider}"
            )

    @property
    def measurer_options(self) -> MeasurerOptions:
        """What the measurer is opened with."""
        folder = self.model.topk_ids_dir
        return MeasurerOptions(
            cache_dir=self.cache_dir,
            cold_l2=self.l2 == "cold",
            topk_ids_dir=Path(folder) if folder else None,
            provider=self.provider,
        )

    def as_json(self) -> dict[str, Any]:
        """Only JSON types; ``from_json`` is its inverse."""
        data = asdict(self)
        data["output_dir"] = str(self.output_dir)
        data["cache_dir"] = str(self.cache_dir)
        data["warm_starts"] = [str(path) for path in self.warm_starts]
        data["kernel"] = self.kernel.value
        data["robust"] = self.robust.value
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
        values["kernel"] = KernelMode(data.get("kernel", KernelMode.FUSED))
        values["robust"] = Robust(data.get("robust", Robust.MEAN))
        values["engines"] = tuple(data["engines"])
        values["output_dir"] = Path(data["output_dir"])
        values["cache_dir"] = Path(data["cache_dir"])
        values["warm_starts"] = tuple(Path(path) for path in data.get("warm_starts", ()))
        return cls(**values)


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordSettings:
    """Everything that ``record`` is started with."""

    model: ModelSettings
    device: str
    """Selector: cuda, estimate:GPU or replay:FILE, never auto."""
    output: Path | None = None
    """None: named by device and problem, in the current folder."""
    kernel: KernelMode = KernelMode.FUSED
    engines: tuple[str, ...] = ("sglang", "vllm")
    l2: str = "cold"
    like: Path | None = None
    """A recording or landscape whose configs are measured, as far as the space has them."""
    limit: int | None = None
    """Configs of a space that are measured, chosen at random; None: all."""
    timeout_s: float | None = None
    run_timeout_s: float = 120.0
    give_up_at: float = HOPELESS
    """A config whose first sample takes so many times the best's gets no more samples."""
    cache_dir: Path = Path(".cache")
    jobs: int = 1
    compile_jobs: int = 1
    seed: int = 0

    def __post_init__(self) -> None:
        if self.output is not None and self.output.suffix != ".npz":
            raise UsageError(f"--output {self.output}: a recording is an .npz file; name it so")
        for flag, count in (("--jobs", self.jobs), ("--compile-jobs", self.compile_jobs)):
            if count < 1:
                raise UsageError(f"{flag} is {count}; it must be at least 1")
        if "," in self.model.routing:
            raise UsageError(
                f"--routing {self.model.routing}: a recording is of one routing. Record each "
                "into a file of its own"
            )
        if self.limit is not None and self.limit < 1:
            raise UsageError(f"--limit is {self.limit}; at least 1 config must be measured")
        if self.timeout_s is not None and self.timeout_s <= 0:
            raise UsageError(f"--timeout is {self.timeout_s} s; it must be above 0")
        if not self.give_up_at > 1:
            raise UsageError(
                f"--give-up-at is {self.give_up_at}; it multiplies the best time: above 1"
            )

    @property
    def measurer_options(self) -> MeasurerOptions:
        """What the measurer is opened with."""
        folder = self.model.topk_ids_dir
        return MeasurerOptions(
            cache_dir=self.cache_dir,
            cold_l2=self.l2 == "cold",
            topk_ids_dir=Path(folder) if folder else None,
        )
