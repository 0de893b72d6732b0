"""``bench``."""

from __future__ import annotations

import argparse
from typing import Any

from autotune.commands.flags import run_settings
from autotune.commands.output import Output
from autotune.errors import UsageError
from autotune.kernels.config import Config
from autotune.kernels.measurement import Measurement, routing_us, typical_us
from autotune.report.progress import device_line
from autotune.report.tables import rows_table
from autotune.studies.outcome import Outcome
from autotune.tune.bench import Timed, bench

_KEYS = ("BLOCK_SIZE_M", "BLOCK_SIZE_N", "BLOCK_SIZE_K", "GROUP_SIZE_M", "num_warps", "num_stages")


def bench_command(args: argparse.Namespace, output: Output) -> int:
    """Time given configs. 1 where any could not be measured."""
    configs = parse_configs(args.configs or [])
    settings = run_settings(args)
    device, rows = bench(settings, configs, args.config_file or [])
    output.note(device_line(device))
    names = settings.model.routing.split(",")
    data = [_row(row, names if len(names) > 1 else []) for row in rows]
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
        "up_us": round(typical_us(measurement.up_us, measurement.routings), 2),
        "down_us": round(typical_us(measurement.down_us, measurement.routings), 2),
    }


def _by_routing(measurement: Measurement | None, names: list[str]) -> dict[str, float | None]:
    """Under each of several routings; ``us`` is then their geometric mean."""
    if measurement is None:
        return dict.fromkeys(f"{name} us" for name in names)
    us = routing_us(measurement.samples_us, len(names)) if names else ()
    return {f"{name} us": round(each, 2) for name, each in zip(names, us, strict=False)}


def _row(row: Timed, routings: list[str]) -> dict[str, Any]:
    measurement, resources = row.result.measurement, row.result.resources
    return {
        "batch_size": row.tokens,
        "source": row.source,
        "config": str(row.config),
        "us": round(measurement.median_us, 2) if measurement else None,
        **_by_routing(measurement, routings),
        **(_halves(measurement) if measurement and measurement.up_us else {}),
        "outcome": row.result.outcome.value,
        "registers": resources.registers if resources else None,
        "spill_bytes": resources.spill_bytes if resources else None,
        "shared_bytes": resources.shared_bytes if resources else None,
        "reason": row.result.reason or None,
    }
