"""SGLang (0.5.23): a folder per Triton version, a second file for the down GEMM."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import replace
from pathlib import Path

from autotune.engines import sglang_kernels
from autotune.engines.base import Engine, Found, Mode
from autotune.engines.entries import CONFIG_KEYS, LAUNCH_OPTIONS, USE_TMA
from autotune.engines.fusion import fused_shared_experts
from autotune.engines.kernel_choice import KernelChoice, case_of, chosen
from autotune.engines.legality import scale_block, why_not_shared
from autotune.engines.names import VERSION_FOLDER, NameParts, checked_device, dtype_part, release
from autotune.engines.serving import blocks_are_cut, check_method, cut_block, ranks_of_expert
from autotune.models.problems import Parallelism
from autotune.models.shape import ModelShape
from autotune.spec.config import Config
from autotune.spec.device import Device, Target
from autotune.spec.limits import why_no_tma
from autotune.spec.problem import Dtype, Problem

_SMALL_SHARED_BYTES = 128 * 1024
"""Below it SGLang's default for fp8 takes tiles that fit 99 KB (Ada, GB10, RTX Blackwell)."""

_NO_METHODS = ("fbgemm-fp8", "experts-int8")
"""vLLM has them; not of ``BASE_QUANTIZATION_METHODS`` (srt/layers/quantization/__init__.py)."""


class SGLang(Engine):
    """SGLang's folders, one for each Triton version, with up and down files.

    The device is ``torch.cuda.get_device_name()`` with ``_`` for spaces, on AMD too.
    """

    name = "sglang"
    title = "SGLang"
    version = "0.5.23"
    modes = (
        Mode(
            "SGLANG_USE_AITER",
            ("1", "true"),
            "takes AITER's kernels on AMD where it can: serve with --moe-runner-backend triton",
            "srt/layers/quantization/unquant.py:70",
        ),
    )
    env_variable = "SGLANG_MOE_CONFIG_DIR"
    env_replaces = True
    uneven = "asserts that it does (srt/layers/moe/fused_moe_triton/layer.py:414)"
    has_down_file = True
    keys = CONFIG_KEYS | LAUNCH_OPTIONS
    shipped = ("srt/layers/moe/moe_runner/triton_utils", "srt/layers/moe/fused_moe_triton")
    """Folders that hold ``configs``, newer layout first."""

    def ranks_of_expert(self, parallel: Parallelism) -> int:
        return ranks_of_expert(parallel)

    def fused_shared_experts(self, shape: ModelShape, parallel: Parallelism) -> int:
        return fused_shared_experts(shape, parallel.ep_size)

    def loaded(self, shape: ModelShape, problem: Problem, ranks: int) -> Problem:
        """It takes whole blocks alone (srt/layers/quantization/fp8.py:1580)."""
        check_method(self.title, shape, problem, _NO_METHODS)
        if cut_block(problem, ranks):
            raise blocks_are_cut(self.title, shape, problem, "vLLM refines blocks of method fp8")
        return problem

    def kernel_choice(self, shape: ModelShape, problem: Problem, target: Target) -> KernelChoice:
        case = case_of(shape, problem, target)
        return chosen(sglang_kernels.RULES, case, sglang_kernels.FLAG)

    def unwritten(self, problem: Problem, device: Device) -> Collection[str]:
        """``USE_TMA`` is written where it is given and TMA can be used, true or false."""
        return {USE_TMA} if _why_no_tma(problem, device) else set()

    def device_name(self, name: str) -> str:
        return checked_device(name).replace(" ", "_")

    def parse_name(self, name: str) -> NameParts | None:
        parts = super().parse_name(name)
        if parts and parts.dtype == Dtype.INT4_W4A16.value:
            return replace(parts, intermediate=parts.intermediate * 2)
        return parts

    def spell(self, parts: NameParts) -> str:
        packed = 2 if parts.dtype == Dtype.INT4_W4A16.value else 1  # two weights in a byte
        spelled = replace(
            parts,
            intermediate=parts.intermediate // packed,
            device_name=self.device_name(parts.device_name),
            dtype=dtype_part(parts.dtype),
        )
        return spelled.text(block_separator=", ")

    def file_folder(self, folder: Path, device: Device) -> Path:
        """Return ``triton_X_Y_Z``, without a local part such as ``+git1a2b``.

        A folder name that is not all numbers makes SGLang's scan of the other versions fail.
        """
        return folder / "configs" / version_folder(release(device.triton_version))

    def folder_of(self, path: Path) -> Path | None:
        version, configs = path.absolute().parent, path.absolute().parent.parent
        if configs.name == "configs" and VERSION_FOLDER.fullmatch(version.name):
            return configs.parent
        return None

    def lookup(
        self, folder: Path, problem: Problem, device: Device, tokens: int, *, down: bool = False
    ) -> Found | None:
        """Look under the device's Triton version first, then under the others, newest first.

        A down file that exists nowhere leaves the down GEMM with the up config.
        """
        name = self.file_name(problem, device, down=down)
        version = device.triton_version
        own = {version_folder(version), version_folder(release(version))}
        for found_in in _version_folders(folder / "configs", version):
            if (found_in / name).exists():
                found = self.find_in(found_in / name, tokens)
                return found and replace(found, is_fallback=found_in.name not in own)
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
        tma = _why_no_tma(problem, device) if config.use_tma else None
        return why_not_shared(problem, device, config) or tma


def _why_no_tma(problem: Problem, device: Device) -> str | None:
    """Judge by the problem alone on Intel's and unknown GPUs: SGLang takes descriptors wherever
    its Triton has them, and ships a file with ``USE_TMA`` for Intel."""
    target = device.target
    known = target if target.backend in ("cuda", "hip") else Target("cuda", 90)
    return why_no_tma(problem, known)


def version_folder(triton_version: str) -> str:
    """Return the folder of files for a Triton version, in ``configs``."""
    return f"triton_{triton_version.replace('.', '_')}"


def _version_folders(configs: Path, triton_version: str) -> Iterator[Path]:
    """Yield the folders that SGLang looks into, in its order, less those that are not numbers."""
    own = configs / version_folder(triton_version)
    yield own
    folders = [path for path in configs.iterdir() if path.is_dir()] if configs.is_dir() else []
    found = ((VERSION_FOLDER.fullmatch(path.name), path) for path in folders)
    versions = [(tuple(map(int, m[1].split("_"))), path) for m, path in found if m]
    yield from (path for _, path in sorted(versions, reverse=True) if path != own)
