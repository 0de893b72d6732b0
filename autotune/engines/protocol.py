"""The seam to a serving engine: what it calls its files, what it reads, what it defaults to."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from autotune.engines.names import NameParts
from autotune.spec.config import Config
from autotune.spec.device import Device
from autotune.spec.problem import Problem

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


class Engine(Protocol):
    """One serving engine's rules about launch configs. Knows files, never imports the engine.

    A problem and a device have one file (SGLang: a second one for the down GEMM). The tuner asks
    for the baselines with ``default_config`` and ``lookup``, keeps to what ``why_illegal`` allows,
    and hands the winners to ``engines.read_write.write_configs``, which uses ``path`` and ``body``.
    ``problem.tokens`` matters to ``default_config`` alone.
    """

    @property
    def name(self) -> str:
        """The name in ``--engine`` and in ``ENGINES``."""

    @property
    def title(self) -> str:
        """The name as people write it."""

    @property
    def env_variable(self) -> str:
        """The environment variable that makes the engine read our folder."""

    @property
    def fuses_shared_experts(self) -> bool:
        """Whether it serves a shared expert as one more routed expert, if the model allows."""

    @property
    def has_down_file(self) -> bool:
        """Whether the down GEMM may have configs of its own, in a second file."""

    @property
    def keys(self) -> frozenset[str]:
        """Keys that an entry may have: any other one breaks the launch."""

    @property
    def header(self) -> frozenset[str]:
        """Keys beside the token counts that a file may have; stripped on load."""

    def constants(self, problem: Problem) -> Mapping[str, int]:
        """Keys that every entry of this problem needs beside a Config's, with their one value."""

    def device_name(self, device: Device) -> str:
        """Return the engine's spelling. Raises EngineFileError for a name that no file can
        carry."""

    def parse_name(self, name: str) -> NameParts | None:
        """Return the parts of a file name, with the true intermediate size; None for no such
        name."""

    def spell(self, parts: NameParts) -> str:
        """Return the file name that the engine looks for; the inverse of ``parse_name``.

        Raises ValueError for parts that the engine has no file for.
        """

    def file_name(self, problem: Problem, device: Device, *, down: bool = False) -> str:
        """``spell`` of the problem's parts."""

    def path(
        self, output_dir: Path, problem: Problem, device: Device, *, down: bool = False
    ) -> Path:
        """Return the problem's file under ``output_dir``; never outside it."""

    def env_folder(self, output_dir: Path) -> Path:
        """Return the value that ``env_variable`` must have for files at ``path(output_dir, …)``."""

    def folder_of(self, path: Path) -> Path | None:
        """Return the value that ``env_variable`` must have for this file; None where none does."""

    def installed_config_folder(self) -> Path | None:
        """Return the folder of the shipped configs, to be handed to ``lookup``; None if not
        installed."""

    def lookup(
        self, folder: Path, problem: Problem, device: Device, tokens: int, *, down: bool = False
    ) -> Found | None:
        """Return what the engine would use for ``tokens`` with ``env_variable`` set to ``folder``.

        None where it falls back to ``default_config``. Raises EngineFileError for a file or an
        entry that the engine would fail on.
        """

    def default_config(self, problem: Problem, device: Device) -> Config:
        """Return the heuristic for ``problem.tokens`` where no file is found."""

    def why_illegal(self, problem: Problem, device: Device, config: Config) -> str | None:
        """Say why this config must not be written; None where the engine runs it as it stands."""

    def launched(self, problem: Problem, config: Config) -> Config:
        """Return what runs when a file says ``config``: an engine may clamp."""

    def body(
        self, configs: Mapping[int, Config], problem: Problem, device: Device
    ) -> dict[str, Any]:
        """Return the file's JSON object, token counts ascending. Raises EngineFileError if
        illegal."""

    def parse(self, body: Mapping[str, Any]) -> dict[int, Config]:
        """Return the inverse of ``body``, in the file's order. Raises EngineFileError where loading
        would."""
