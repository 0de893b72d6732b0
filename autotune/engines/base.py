"""The seam to a serving engine: what it calls its files, what it reads, what it defaults to."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, ClassVar

from autotune.engines import names
from autotune.engines.entries import (
    CONFIG_KEYS,
    as_tokens,
    config_of,
    load_body,
    nearest,
    options_of,
)
from autotune.engines.kernel_choice import KernelChoice, gpu_words
from autotune.engines.known import why_unknown
from autotune.engines.names import NameParts
from autotune.engines.redundant import as_taken
from autotune.errors import EngineFileError, NotServedError
from autotune.models.problems import Parallelism, problem_of, with_redundant
from autotune.models.shape import ModelShape
from autotune.spec.config import Config
from autotune.spec.device import Device, Target
from autotune.spec.problem import Dtype, Problem

DEFAULT_TOKENS = (1, 2, 4, 8, 16, 24, 32, 48, 64, 96, 128, 256, 512, 1024, 1536, 2048, 3072, 4096)
"""Token counts that both engines' own tuners write."""


@dataclass(frozen=True, slots=True)
class Found:
    """The config that an engine would launch, and where it read it."""

    config: Config
    path: Path
    key: int
    """The file's token count that is nearest to the one asked for."""
    is_fallback: bool = False
    """Read from the folder of another Triton version than the device's."""
    options: tuple[tuple[str, Any], ...] = ()
    """Launch options of the entry that no Config has, as ``num_ctas`` 2."""


@dataclass(frozen=True, slots=True)
class Mode:
    """An environment setting under which an engine does not open the files that we write."""

    variable: str
    values: tuple[str, ...]
    effect: str
    """What the engine does then, as the end of "vLLM …"."""
    source: str
    """File and line in the engine's package."""

    def is_set(self, environment: Mapping[str, str]) -> bool:
        """True where the environment asks for this mode."""
        return environment.get(self.variable, "").lower() in self.values


class Engine(ABC):
    """One serving engine's rules about launch configs. Knows files, never imports the engine.

    A problem and a device have one file (SGLang: a second one for the down GEMM). The tuner asks
    for the baselines with ``default_config`` and ``lookup``, keeps to what ``why_illegal`` allows,
    and hands the winners to ``engines.read_write.write_configs``, which uses ``path`` and ``body``.
    ``problem.tokens`` matters to ``default_config`` alone.
    """

    name: ClassVar[str]
    """The name in ``--engine`` and in ``ENGINES``; the package's, too."""
    title: ClassVar[str]
    """The name as people write it."""
    version: ClassVar[str]
    """The version that its rules were read in."""
    modes: ClassVar[tuple[Mode, ...]]
    """What the environment may say against our files."""
    env_variable: ClassVar[str]
    """The environment variable that makes the engine read our folder."""
    env_replaces: ClassVar[bool]
    """Whether that folder is read in place of the shipped one, not before it."""
    has_down_file: ClassVar[bool]
    """Whether the down GEMM may have configs of its own, in a second file."""
    keys: ClassVar[frozenset[str]]
    """Keys that an entry may have: any other one breaks the launch."""
    header: ClassVar[frozenset[str]] = frozenset()
    """Keys beside the token counts that a file may have; stripped on load."""
    other_kernels: ClassVar[Mapping[str, str]] = {}
    """End of the names of files for a kernel that is not Triton's → what that kernel is called."""
    shipped: ClassVar[tuple[str, ...]]
    """Folders of config files inside the installed package; the first that exists is read."""
    uneven: ClassVar[str]
    """What it does where experts cannot be shared out evenly, as the end of "vLLM …"."""
    own_names: tuple[str, ...] = ()
    """Names of the up and the down file, with ``{device}``, where the engine's own code makes
    others than ``spell``; they are of one problem."""
    own_code: str = ""
    """Its own code that was asked for names and made them, in words: version and place."""
    own_classes: frozenset[str] = frozenset()
    """Classes of models that its own code at hand has, beside those of the table."""

    def constants(self, problem: Problem) -> dict[str, int]:
        """Keys that every entry of this problem needs beside a Config's, with their one value."""
        return {}

    def unwritten(self, problem: Problem, device: Device) -> Collection[str]:
        """Keys of a Config that entries of this problem never have."""
        return CONFIG_KEYS - self.keys

    def serves(
        self,
        shape: ModelShape,
        dtype: Dtype | None,
        parallel: Parallelism,
        *,
        tokens: int,
        routing: str,
        per_channel_quant: bool = False,
        fuses: bool = True,
    ) -> Problem:
        """Return the problem that one of its ranks computes; not ``fuses`` keeps shared experts
        apart.

        Raises UsageError for what cannot be split so, NotServedError where this engine alone
        refuses it, and what ``problem_of`` raises.
        """
        self.check_served(shape)
        ranks = self.ranks_of_expert(parallel)
        with_redundant(shape, parallel)  # refuses copies without expert parallelism
        taken = with_redundant(shape, as_taken(self.name, self.title, shape, parallel))
        self._check_even(taken, parallel.ep_size)
        problem = problem_of(
            taken,
            dtype,
            tp_size=ranks,
            ep_size=parallel.ep_size,
            ep_rank=parallel.ep_rank,
            per_channel_quant=per_channel_quant,
            fused_shared_experts=self.fused_shared_experts(shape, parallel) if fuses else 0,
            tokens=tokens,
            routing=routing,
        )
        return self.loaded(shape, problem, ranks)

    def check_served(self, shape: ModelShape) -> None:
        """Raises NotServedError for a model that this engine has no class for."""
        if shape.architecture in self.own_classes:
            return
        if reason := why_unknown(self.name, shape, self.package_folder()):
            raise NotServedError(
                f"{shape.name}: {self.title} {reason}. Where your version or plugin has it, or the "
                "config names another class than it should, give the sizes with --shape"
            )

    def _check_even(self, shape: ModelShape, ep_size: int) -> None:
        """Raises NotServedError unless every rank has as many experts."""
        if shape.experts % ep_size:
            allowed = [n for n in range(1, min(shape.experts, 128) + 1) if shape.experts % n == 0]
            raise NotServedError(
                f"--ep-size {ep_size} does not divide the experts of {shape.name}, "
                f"{shape.experts}: {self.title} {self.uneven}; allowed are "
                f"{', '.join(map(str, allowed))}. "
                f"Try --ep-size {max(n for n in allowed if n < ep_size)}"
            )

    @abstractmethod
    def ranks_of_expert(self, parallel: Parallelism) -> int:
        """Return how many ranks share an expert. Raises UsageError for a split that cannot be."""

    def fused_shared_experts(self, shape: ModelShape, parallel: Parallelism) -> int:
        """Return how many shared experts it serves as routed ones, unless told not to."""
        return 0

    @abstractmethod
    def loaded(self, shape: ModelShape, problem: Problem, ranks: int) -> Problem:
        """Return ``problem`` with the scale blocks that it has once weights are loaded, an expert
        being shared by ``ranks``. Raises NotServedError where the engine refuses to load them."""

    @abstractmethod
    def kernel_choice(self, shape: ModelShape, problem: Problem, target: Target) -> KernelChoice:
        """Return the kernel that it takes for these experts where nobody tells it."""

    def kernel_words(self, choice: KernelChoice, target: Target) -> str:
        """Return a line for people: whether it opens our files here by itself, else with what."""
        return choice.words(f"{self.title} {self.version}", gpu_words(target))

    @abstractmethod
    def device_name(self, name: str) -> str:
        """Return the engine's spelling. Raises EngineFileError for what no file name can hold."""

    def parse_name(self, name: str) -> NameParts | None:
        """Return the parts of a file name, with the true intermediate size; None for no such."""
        return names.parse_name(name)

    def other_kernel(self, name: str) -> str | None:
        """Return the kernel, not Triton's, whose config file is called ``name``; None for none."""
        kernels = self.other_kernels.items()
        return next((kernel for end, kernel in kernels if name.endswith(end)), None)

    @abstractmethod
    def spell(self, parts: NameParts) -> str:
        """Return the file name that the engine looks for; the inverse of ``parse_name``.

        Raises ValueError for parts that the engine has no file for.
        """

    def file_name(self, problem: Problem, device: Device, *, down: bool = False) -> str:
        """``spell`` of the problem's parts, or the engine's own name where it has another."""
        if self.own_names:
            return self.own_names[down].format(device=self.device_name(device.name))
        return self.spell(NameParts.of(problem, device, down=down))

    def path(
        self, output_dir: Path, problem: Problem, device: Device, *, down: bool = False
    ) -> Path:
        """Return the problem's file under ``output_dir``; never outside it."""
        folder = self.file_folder(self.env_folder(output_dir), device)
        return folder / self.file_name(problem, device, down=down)

    def env_folder(self, output_dir: Path) -> Path:
        """Return the value that ``env_variable`` must have for files at ``path(output_dir, …)``."""
        return output_dir / self.name

    def users_folder(self, environment: Mapping[str, str], output_dir: Path) -> Path | None:
        """Return the folder that ``env_variable`` names; None where that is ``output_dir``'s, whose
        files are ours."""
        folder = Path(environment.get(self.env_variable, ""))
        is_ours = folder.resolve() == self.env_folder(output_dir).resolve()
        return None if is_ours or not environment.get(self.env_variable) else folder

    def file_folder(self, folder: Path, device: Device) -> Path:
        """Return the folder of a device's files where ``env_variable`` has the value ``folder``."""
        return folder

    @abstractmethod
    def folder_of(self, path: Path) -> Path | None:
        """Return the value that ``env_variable`` must have for this file; None where none does."""

    def package_folder(self) -> Path | None:
        """Return the installed package's folder, found without importing it; None if there is
        none."""
        try:
            spec = find_spec(self.name)
        except ValueError:  # a module that was put into sys.modules without a spec
            return None
        if spec is None or spec.origin is None:  # a folder of that name, as our output has one
            return None
        return next((Path(root) for root in spec.submodule_search_locations or ()), None)

    def installed_config_folder(self) -> Path | None:
        """Return the folder of the shipped configs, for ``lookup``; None if not installed."""
        package = self.package_folder()
        folders = (package / folder for folder in self.shipped) if package else ()
        return next((folder for folder in folders if folder.is_dir()), None)

    @abstractmethod
    def lookup(
        self, folder: Path, problem: Problem, device: Device, tokens: int, *, down: bool = False
    ) -> Found | None:
        """Return what the engine would use for ``tokens`` with ``env_variable`` set to ``folder``.

        None where it falls back to ``default_config``. Raises EngineFileError for a file or an
        entry that the engine would fail on.
        """

    def find_in(self, path: Path, tokens: int) -> Found | None:
        """Return the entry of ``path`` nearest to ``tokens``; None for a file without entries."""
        body = load_body(path)
        try:
            entries = entries_by_tokens(body, self.header)
            if not entries:
                return None
            key = nearest(entries, tokens)
            config = self._parsed(key, entries[key])
            return Found(config, path, key, options=tuple(options_of(entries[key]).items()))
        except EngineFileError as error:
            raise EngineFileError(f"{path}: {error}") from error

    @abstractmethod
    def default_config(self, problem: Problem, device: Device) -> Config:
        """Return the heuristic for ``problem.tokens`` where no file is found."""

    @abstractmethod
    def why_illegal(self, problem: Problem, device: Device, config: Config) -> str | None:
        """Say why this config must not be written; None where the engine runs it as it stands."""

    def launched(self, problem: Problem, config: Config) -> Config:
        """Return what runs when a file says ``config``: an engine may clamp."""
        return config

    def body(
        self, configs: Mapping[int, Config], problem: Problem, device: Device
    ) -> dict[str, Any]:
        """Return a file's JSON object, tokens ascending. Raises EngineFileError if illegal."""
        for tokens, config in configs.items():
            if reason := self.why_illegal(problem, device, config):
                raise EngineFileError(
                    f"the config for {tokens} tokens ({config}) is illegal: {reason}"
                )
        more, unwritten = self.constants(problem), self.unwritten(problem, device)
        return {
            str(m): {k: v for k, v in configs[m].as_keys().items() if k not in unwritten} | more
            for m in sorted(configs)
        }

    def parse(self, body: Mapping[str, Any]) -> dict[int, Config]:
        """Return the inverse of ``body``, in the file's order, or raise EngineFileError."""
        entries = entries_by_tokens(body, self.header)
        return {tokens: self._parsed(tokens, entry) for tokens, entry in entries.items()}

    def _parsed(self, tokens: int, entry: object) -> Config:
        try:
            return config_of(entry, self.keys)
        except ValueError as error:
            raise EngineFileError(
                f"the entry for {tokens} tokens cannot be launched: {error}"
            ) from error


def entries_by_tokens(body: Mapping[str, Any], ignored: Collection[str] = ()) -> dict[int, Any]:
    """Entries under integer keys, in the file's order. Raises EngineFileError for another key."""
    entries: dict[int, Any] = {}
    for key, entry in body.items():
        if key in ignored:
            continue
        tokens = as_tokens(key)
        if tokens is None:
            raise EngineFileError(
                f"the key {key!r} is not a token count, and the engine fails on it. Remove it"
            )
        entries[tokens] = entry
    return entries
