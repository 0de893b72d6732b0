"""``bench``."""

from __future__ import annotations

import argparse
from statistics import median
from typing import Any

from autotune.commands.flags import run_settings
from autotune.commands.output import Output
from autotune.errors import UsageError
from autotune.kernels.config import Config
from autotune.kernels.measurement import Measurement
from autotune.report.progress import device_line
from autotune.report.tables import rows_table
from autotune.studies.outcome import Outcome
from autotune.tune.bench import Timed, bench

_KEYS = ("BLOCK_SIZE_M", "BLOCK_SIZE_N", "BLOCK_SIZE_K", "GROUP_SIZE_M", "num_warps", "num_stages")


def bench_command(args: argparse.Namespace, output: Output) -> int:
    """Time given configs. 1 where any could not be measured."""
    configs = parse_configs(args.configs or [])
    device, rows = bench(run_settings(args), configs, args.config_file or [])
    output.note(device_line(device))
    data = [_row(row) for row in rows]
    output.result({"device": device.name, "rows": data}, rows_table(data))
    return int(any(row.result.outcome != Outcome.OK for row in rows))


def parse_configs(numbers: list[int]) -> list[Config]:
    """Six numbers each, in the engines' key order. Raises UsageError for another count."""
    size = len(_KEYS)
    if len(numbers) % size:
        raise UsageError(
            f"--configs has {len(numbers)} numbers; each config has {size}: {' '.join(_KEYS)}"
        )
    return [
        Config.from_keys(dict(zip(_KEYS, numbers[start : start + size], strict=True)))
        for start in range(0, len(numbers), size)
    ]


def _halves(measurement: Measurement) -> dict[str, float]:
    return {
        "up_us": round(median(measurement.up_us), 2),
        "down_us": round(median(measurement.down_us), 2),
    }


def _row(row: Timed) -> dict[str, Any]:
    measurement, resources = row.result.measurement, row.result.resources
    return {
        "batch_size": row.tokens,
        "source": row.source,
        "config": str(row.config),
        "us": round(measurement.median_us, 2) if measurement else None,
        **(_halves(measurement) if measurement and measurement.up_us else {}),
        "outcome": row.result.outcome.value,
        "registers": resources.registers if resources else None,
        "spill_bytes": resources.spill_bytes if resources else None,
        "shared_bytes": resources.shared_bytes if resources else None,
        "reason": row.result.reason or None,
    }
