"""Converts a landscape that was not written by ``record`` into a recording, which
``--device replay:FILE`` reads.

    python benchmarks/landscapes/convert_landscape.py moe_h200_qwen3-30b-a3b_tp1_bf16.npz \\
        qwen3.npz --model Qwen/Qwen3-30B-A3B --gpu NVIDIA_H200 --triton 3.6.0

Such a file holds ``configs`` [n, 6] (BLOCK_SIZE_M, N, K, GROUP_SIZE_M, num_warps, num_stages) and
for each batch size ``M<batch>`` [n, 2, samples] in µs of the up and the down GEMM; all NaN where a
config does not compile, NaN after the first samples where it was stopped. It says neither what
was measured nor on which GPU: that is yours to say.
"""

from __future__ import annotations

import argparse
import re
import sys
import zipfile
from pathlib import Path

import numpy as np
from gemm_times import GemmTimes, write_gemm_times

from autotune.backends.hardware import find_spec
from autotune.commands.flag_command import parse_flags
from autotune.commands.model_flags import ModelFlags, model_settings
from autotune.engines import ENGINES
from autotune.errors import AutotuneError, UsageError
from autotune.spec.config import Config
from autotune.spec.device import Device, DeviceKind
from autotune.tuning.jobs import jobs_of, model_shape

_BATCH_KEY = re.compile(r"M(\d+)")
_COLUMNS = 6


def read_foreign(path: Path) -> GemmTimes:
    """Read the arrays of a foreign landscape; raises UsageError where ``path`` is none."""
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise UsageError(f"{path} cannot be read as a landscape (.npz): {error}") from error
    table = arrays.pop("configs", None)
    sizes = {name: int(match[1]) for name in arrays if (match := _BATCH_KEY.fullmatch(name))}
    if table is None or table.ndim != 2 or table.shape[1] != _COLUMNS or not sizes:
        raise UsageError(f"{path} is no landscape: it needs configs [n, {_COLUMNS}] and M<batch>")
    for name in sizes:
        shape = arrays[name].shape
        if len(shape) != 3 or shape[:2] != (len(table), 2):
            raise UsageError(f"{path}: {name} is {list(shape)}, not [{len(table)}, 2, samples]")
    configs = tuple(Config(*row) for row in table.astype(int).tolist())
    return GemmTimes(configs, {size: arrays[name].astype(float) for name, size in sizes.items()})


def main() -> int:
    parser = argparse.ArgumentParser(
        description=(__doc__ or "").partition(",")[0],
        epilog="and the flags that name a layer: see 'autotune run --help'",
        allow_abbrev=False,
    )
    parser.add_argument("foreign", type=Path, help="the .npz with configs and M<batch>")
    parser.add_argument("output", type=Path, help="the recording to write")
    parser.add_argument("--gpu", required=True, help="what it was measured on, as NVIDIA_H200")
    parser.add_argument("--triton", required=True, help="version that compiled the kernels")
    parser.add_argument("--how", default="up and down GEMM, converted", help="how it was timed")
    parser.add_argument("--engine", nargs="+", choices=list(ENGINES), default=list(ENGINES))
    args, of_model = parser.parse_known_args()
    try:
        times, spec = read_foreign(args.foreign), find_spec(args.gpu)
        flags = parse_flags(ModelFlags, of_model)
        settings = model_settings(flags, flags.model)
        jobs = jobs_of(model_shape(settings), settings, args.engine)
    except AutotuneError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    device = Device(
        DeviceKind.CUDA, spec.name, spec.target, spec.shared_per_block, args.triton, args.how
    )
    problems = list(dict.fromkeys(job.problem for job in jobs))
    tokens = problems[0].tokens
    problems = [problem for problem in problems if problem.tokens == tokens]
    write_gemm_times(args.output, times, problems, device, args.how)
    for problem in problems:
        print(f"{args.output}: {problem.name.rpartition(' ')[0]}, M={list(times.batch_sizes)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
