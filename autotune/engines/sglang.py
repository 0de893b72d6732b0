"""SGLang (0.5.23): a folder per Triton version, a second file for the down GEMM."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from autotune.engines.entries import CONFIG_KEYS, USE_TMA
from autotune.engines.legality import scale_block, why_no_tma, why_not_shared
from autotune.engines.lookup import (
    entries_by_tokens,
    find_in,
    installed_folder,
    parsed,
    refuse_illegal,
)
from autotune.engines.names import NameParts, checked_device, dtype_part, parse_name, release
from autotune.engines.protocol import Found
from autotune.spec.config import Config
from autotune.spec.device import Device
from autotune.spec.problem import Dtype, Problem

_VERSION_FOLDER = re.compile(r"triton_([0-9]+(?:_[0-9]+)*)")

_SMALL_SHARED_BYTES = 128 * 1024
"""Below it SGLang's default for fp8 takes tiles that fit 99 KB (Ada, GB10, RTX Blackwell)."""

_SHIPPED = (
    "srt/layers/moe/moe_runner/triton_utils",
    "srt/layers/moe/fused_moe_triton",
)
"""Folders that hold ``configs``, newer layout first."""


class SGLang:
    """Implements Engine.

    The device is ``torch.cuda.get_device_name()`` with ``_`` for spaces, on AMD too.
    """

    name = "sglang"
    title = "SGLang"
    env_variable = "SGLANG_MOE_CONFIG_DIR"
    fuses_shared_experts = True
    has_down_file = True
    keys = CONFIG_KEYS
    header: frozenset[str] = frozenset()

    def constants(self, problem: Problem) -> Mapping[str, int]:
        return {}

    def device_name(self, device: Device) -> str:
        return _spelled_device(device.name)

    def parse_name(self, name: str) -> NameParts | None:
        parts = parse_name(name)
        if parts and parts.dtype == Dtype.INT4_W4A16.value:
            return replace(parts, intermediate=parts.intermediate * 2)
        return parts

    def spell(self, parts: NameParts) -> str:
        packed = 2 if parts.dtype == Dtype.INT4_W4A16.value else 1  # two weights in a byte
        spelled = replace(
            parts,
            intermediate=parts.intermediate // packed,
            device_name=_spelled_device(parts.device_name),
            dtype=dtype_part(parts.dtype),
        )
        return spelled.text(block_separator=", ")

    def file_name(self, problem: Problem, device: Device, *, down: bool = False) -> str:
        return self.spell(NameParts.of(problem, device, down=down))

    def path(
        self, output_dir: Path, problem: Problem, device: Device, *, down: bool = False
    ) -> Path:
        """Return the file in ``triton_X_Y_Z``, without a local part such as ``+git1a2b``.

        A folder name that is not all numbers makes SGLang's scan of the other versions fail.
        """
        folder = _folder_name(release(device.triton_version))
        name = self.file_name(problem, device, down=down)
        return self.env_folder(output_dir) / "configs" / folder / name

    def env_folder(self, output_dir: Path) -> Path:
        return output_dir / self.name

    def folder_of(self, path: Path) -> Path | None:
        version, configs = path.absolute().parent, path.absolute().parent.parent
        if configs.name == "configs" and _VERSION_FOLDER.fullmatch(version.name):
            return configs.parent
        return None

    def installed_config_folder(self) -> Path | None:
        return installed_folder(self.name, _SHIPPED)

    def lookup(
        self, folder: Path, problem: Problem, device: Device, tokens: int, *, down: bool = False
    ) -> Found | None:
        """See ``Engine``: the device's Triton version first, then the others, newest first.

        A down file that exists nowhere leaves the down GEMM with the up config.
        """
        name = self.file_name(problem, device, down=down)
        own = {_folder_name(device.triton_version), _folder_name(release(device.triton_version))}
        for version in _version_folders(folder / "configs", device.triton_version):
            if (version / name).exists():
                found = find_in(version / name, tokens, self.keys)
                return found and replace(found, is_fallback=version.name not in own)
        return self.lookup(folder, problem, device, tokens) if down else None

    def default_config(self, problem: Problem, device: Device) -> Config:
        few = problem.tokens <= problem.experts
        on_amd = device.target.backend == "hip"  # where SGLang keeps two stages, as Triton does
        if problem.dtype is not Dtype.FP8_W8A8:
            default = Config(16, 32, 64, 1) if few else Config(64, 64, 32, 8)
            return replace(default, num_stages=2) if on_amd else default
        block = scale_block(problem)
        if block:
            return Config(64, *block, 32, num_warps=4, num_stages=2 if on_amd else 3)
        if device.shared_bytes < _SMALL_SHARED_BYTES and not on_amd:
            return Config(32, 64, 256, 1, 4, 4) if few else Config(64, 128, 256, 64, 4, 2)
        stages = 2 if on_amd else 4
        return Config(64, 128, 128, 1, 4, stages) if few else Config(128, 256, 128, 32, 8, stages)

    def why_illegal(self, problem: Problem, device: Device, config: Config) -> str | None:
        tma = why_no_tma(problem, device) if config.use_tma else None
        return why_not_shared(problem, device, config) or tma

    def launched(self, problem: Problem, config: Config) -> Config:
        return config

    def body(
        self, configs: Mapping[int, Config], problem: Problem, device: Device
    ) -> dict[str, Any]:
        """``USE_TMA`` is written where it is given and TMA can be used, true or false."""
        refuse_illegal(configs, problem, device, self.why_illegal)
        dropped = {USE_TMA} if why_no_tma(problem, device) else set()
        return {
            str(tokens): {k: v for k, v in configs[tokens].as_keys().items() if k not in dropped}
            for tokens in sorted(configs)
        }

    def parse(self, body: Mapping[str, Any]) -> dict[int, Config]:
        entries = entries_by_tokens(body)
        return {tokens: parsed(tokens, entry, self.keys) for tokens, entry in entries.items()}


def _spelled_device(name: str) -> str:
    return checked_device(name).replace(" ", "_")


def _folder_name(triton_version: str) -> str:
    return f"triton_{triton_version.replace('.', '_')}"


def _version_folders(configs: Path, triton_version: str) -> Iterator[Path]:
    """Yield the folders that SGLang looks into, in its order, less those that are not numbers."""
    own = configs / _folder_name(triton_version)
    yield own
    found = ((_VERSION_FOLDER.fullmatch(path.name), path) for path in _folders(configs))
    versions = [(tuple(map(int, m[1].split("_"))), path) for m, path in found if m]
    yield from (path for _, path in sorted(versions, reverse=True) if path != own)


def _folders(configs: Path) -> list[Path]:
    return [path for path in configs.iterdir() if path.is_dir()] if configs.is_dir() else []
