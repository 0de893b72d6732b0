"""Which kernel an engine takes for the experts: rules as rows of a table, of which the first that
meets a case counts. Files of this package are read by the Triton kernel alone."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from enum import Enum, auto

from autotune.models.shape import ModelShape
from autotune.spec.device import Target
from autotune.spec.problem import Dtype, Problem

TRITON, AITER = "Triton", "AITER where it can"
BOTH_WAYS = (
    "a run's times are of Triton's kernel alone: measure the server both ways before you switch "
    "(docs/serving.md)"
)
"""What is to be known where an engine takes another kernel by itself."""
NOTHING = "no kernel"
"""The backend where the engine refuses the case."""
SM80, SM89, SM90, SM100, SM120 = "SM80", "SM89", "SM90", "SM100", "SM120"
CUDA = (SM80, SM89, SM90, SM100, SM120)
AMD = ("gfx942", "gfx950")
_FAMILY: dict[int | str, str] = {
    **dict.fromkeys((80, 86, 87), SM80),
    **{89: SM89, 90: SM90, 100: SM100, 103: SM100, 120: SM120, 121: SM120},
    **dict(zip(AMD, AMD, strict=True)),
}


@dataclass(frozen=True, slots=True)
class Source:
    """The place of a rule in the engine's package."""

    file: str
    line: int
    name: str
    """The function or class around the line."""

    def __str__(self) -> str:
        return f"{self.file}:{self.line}"


_TRUE = ("1", "true")
"""What engines read as yes in the environment."""


@dataclass(frozen=True, slots=True)
class KernelChoice:
    """The kernel that an engine takes for the experts where nobody tells it."""

    backend: str = ""
    """The engine's name for it; empty where that is not known."""
    flag: str = ""
    """The flag that makes the engine take Triton; empty where none does."""
    package: str = ""
    """The package that holds the kernel: without it the engine takes ``otherwise``."""
    otherwise: str = ""
    unless: str = ""
    """An environment setting that makes the engine take another kernel, as "NAME=1"."""
    set_by: str = ""
    """Where it is set though nobody asks for it, or that it is set here, in words."""
    source: Source | None = None

    @property
    def by_itself(self) -> bool:
        """True where the engine opens our files without being told."""
        return self.backend == TRITON

    def under(self, environment: Mapping[str, str]) -> KernelChoice:
        """Return the choice of a server that is started in ``environment``."""
        name, _, _ = self.unless.partition("=")
        if environment.get(name, "").lower() not in _TRUE:
            return self
        is_set = f"{name}={environment[name]} is set here"
        return replace(self, backend=AITER, unless="", set_by=is_set)

    def words(self, engine: str, gpu: str) -> str:
        """Return one line for people; ``engine`` is its name and version, ``gpu`` a family."""
        if not self.backend:
            return (
                f"{engine}: it is not known which kernel it takes for this on {gpu}; it opens "
                f"these files with Triton's alone{f': serve with {self.flag}' * bool(self.flag)}"
            )
        if self.by_itself:
            return f"{engine} serves this with Triton by itself on {gpu}{self._but()}"
        if self.backend == NOTHING:
            only = f" but with {self.flag}" if self.flag else ": it refuses the checkpoint"
            return f"{engine} has no kernel for this on {gpu}{only}"
        held = f" ({self.otherwise} without {self.package})" if self.package else ""
        why = f", as {self.set_by}" if self.set_by else ""
        taken = f"{engine} takes {self.backend}{held} for this on {gpu}{why}"
        if self.flag:
            return f"{taken}: serve with {self.flag}, or these files are not opened; {BOTH_WAYS}"
        return f"{taken}, and no flag makes it take Triton: these files are not opened"

    def _but(self) -> str:
        if not self.unless:
            return ""
        where = f", as {self.set_by} has it" if self.set_by else ""
        return f", unless {self.unless} is set{where}: then serve with {self.flag}"


class Scheme(Enum):
    """The ways to store experts that the engines' rules tell apart."""

    PLAIN = auto()
    """bf16 or fp16."""
    FP8_BLOCK = auto()
    """Blocks of 128 x 128."""
    FP8_OTHER_BLOCK = auto()
    FP8_CHANNEL = auto()
    """A scale for each output channel and for each token."""
    FP8_TENSOR = auto()
    """One scale for an expert; activations are scaled as they come."""
    FP8_STATIC = auto()
    """One scale for an expert, and a stored one for its activations."""
    INT8 = auto()
    INT8_BLOCK = auto()
    INT8_WEIGHTS = auto()
    INT4_BY_32 = auto()
    """Symmetric, in groups of 32."""
    INT4_BY_128 = auto()
    """Symmetric, in groups of 128."""
    INT4 = auto()


FP8 = (Scheme.FP8_BLOCK, Scheme.FP8_CHANNEL, Scheme.FP8_TENSOR, Scheme.FP8_STATIC)
INT_WEIGHTS = (Scheme.INT4_BY_32, Scheme.INT4_BY_128, Scheme.INT4, Scheme.INT8_WEIGHTS)


@dataclass(frozen=True, slots=True)
class Case:
    """What rules ask of a layer, its checkpoint and the GPU."""

    gpu: str
    """A family of GPUs, as ``SM90``; empty where it is not known."""
    scheme: Scheme | None
    method: str
    """The checkpoint's own word for its format; empty for one that is not quantised."""
    model: str
    """The model's class; empty where the shape came from ``--shape``."""
    ep: bool
    gated: bool


@dataclass(frozen=True, slots=True)
class KernelRule:
    """One row: what an engine takes in the cases that all its conditions meet."""

    choice: KernelChoice
    gpus: tuple[str, ...]
    schemes: tuple[Scheme, ...]
    methods: tuple[str, ...] = ("",)
    models: frozenset[str] = field(default_factory=frozenset)
    """Classes of models; empty: all."""
    ep: bool | None = None
    gated: bool | None = None

    def meets(self, case: Case) -> bool:
        """True where this row says what is taken, unless an earlier one does."""
        return (
            case.gpu in self.gpus
            and case.scheme in self.schemes
            and case.method in self.methods
            and (not self.models or case.model in self.models)
            and self.ep in (None, case.ep)
            and self.gated in (None, case.gated)
        )


def chosen(rules: Iterable[KernelRule], case: Case, flag: str) -> KernelChoice:
    """Return what the first row says that meets the case; not known, with ``flag``, for none."""
    found = (rule.choice for rule in rules if rule.meets(case))
    return next(found, KernelChoice(flag=flag))


def family(target: Target) -> str:
    """Return the family of a GPU whose rules are known; empty for any other."""
    return _FAMILY.get(target.arch, "") if target.backend in ("cuda", "hip") else ""


def gpu_words(target: Target) -> str:
    """Return a GPU's architecture as people write it."""
    return f"SM{target.arch}" if target.backend == "cuda" else str(target.arch)


def case_of(shape: ModelShape, problem: Problem, target: Target) -> Case:
    """Return what rules ask. A dtype that is not the checkpoint's own is one that the engine makes
    of weights that are not quantised; of others no rule speaks."""
    stored = shape.quantization
    method = stored.method if stored else ""
    makes_it = (
        stored is None or stored.dtype is problem.dtype or (stored.upcast and _is_plain(problem))
    )
    static = stored is not None and stored.static_activations
    return Case(
        gpu=family(target),
        scheme=_scheme(problem, static=static) if makes_it else None,
        method=method,
        model=shape.architecture,
        ep=problem.ep_size > 1,
        gated=problem.gated,
    )


def _is_plain(problem: Problem) -> bool:
    return problem.dtype in (Dtype.BF16, Dtype.FP16)


def _scheme(problem: Problem, *, static: bool) -> Scheme | None:
    if problem.dtype is Dtype.FP8_W8A8:
        return _fp8_scheme(problem, static=static)
    if problem.dtype is Dtype.INT4_W4A16:
        by_group = {(0, 32): Scheme.INT4_BY_32, (0, 128): Scheme.INT4_BY_128}
        group = None if problem.zero_points else problem.block_shape
        return by_group.get(group or (0, 0), Scheme.INT4)
    schemes = {
        Dtype.BF16: Scheme.PLAIN,
        Dtype.FP16: Scheme.PLAIN,
        Dtype.INT8_W8A8: Scheme.INT8_BLOCK if problem.block_shape else Scheme.INT8,
        Dtype.INT8_W8A16: Scheme.INT8_WEIGHTS,
    }
    return schemes.get(problem.dtype)


def _fp8_scheme(problem: Problem, *, static: bool) -> Scheme:
    if problem.block_shape:
        whole = problem.block_shape == (128, 128)
        return Scheme.FP8_BLOCK if whole else Scheme.FP8_OTHER_BLOCK
    if problem.per_channel_quant:
        return Scheme.FP8_CHANNEL
    return Scheme.FP8_STATIC if static else Scheme.FP8_TENSOR
