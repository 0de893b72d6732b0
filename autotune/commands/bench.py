"""``bench``: times given configs, without tuning."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from autotune.commands.flag_kinds import Many, paths
from autotune.commands.flags import (
    DeviceFlags,
    EngineFlag,
    MeasuringFlags,
    cache_dir,
    device_selector,
    written_engines,
)
from autotune.commands.model_flags import ModelFlags, from_flags, model_settings
from autotune.commands.output import Output
from autotune.engines import ENGINES
from autotune.errors import UsageError
from autotune.exit_codes import ExitCode
from autotune.report.terminal.run_display import device_line
from autotune.report.terminal.tables import rows_table
from autotune.settings import RunSettings
from autotune.spec.config import Config
from autotune.spec.measurement import Measurement, routing_us, typical_us
from autotune.spec.ranges import LAUNCHES
from autotune.studies.outcome import Outcome
from autotune.tuning.comparison.bench import BenchTime, bench, bench_files, measured_provider
from autotune.tuning.comparison.config_files import FilesAtSize, FileTime, FileTotal, totals

_PANEL = "Configs (none: what the engines launch by themselves)"
_KEYS = ("BLOCK_SIZE_M", "BLOCK_SIZE_N", "BLOCK_SIZE_K", "GROUP_SIZE_M", "num_warps", "num_stages")


@dataclass(frozen=True, kw_only=True)
class Flags(ModelFlags, DeviceFlags, MeasuringFlags, EngineFlag):
    """Which configs are timed, of which layer, where and on whose kernel."""

    configs: Annotated[
        tuple[int, ...],
        typer.Option(
            "--configs",
            rich_help_panel=_PANEL,
            help="six numbers a config: BLOCK_SIZE_M N K GROUP_SIZE_M num_warps num_stages",
        ),
        Many(),
    ] = ()
    config_files: Annotated[
        tuple[Path, ...],
        typer.Option(
            "--config-file",
            rich_help_panel=_PANEL,
            help="engine files; two and more are measured interleaved, and compared with the "
            "first; on an engine's kernel also one, and all with what the engine launches by "
            "itself. The _down file beside one is read where the engine reads it",
        ),
        Many(paths),
    ] = ()


def _settings(flags: Flags) -> RunSettings:
    return from_flags(
        RunSettings,
        flags,
        model=model_settings(flags, flags.model),
        device=device_selector(flags),
        engines=written_engines(flags, flags.provider),
        cache_dir=cache_dir(flags),
    )


def run(flags: Flags, output: Output) -> int:
    """Time given configs. FAILED where any could not be measured."""
    configs, files = parse_configs(flags.configs), [*dict.fromkeys(flags.config_files)]
    settings = _settings(flags)
    if files and not configs and (len(files) > 1 or measured_provider(settings) in ENGINES):
        return _bench_files(settings, files, output)
    device, rows = bench(settings, configs, files)
    output.note(device_line(device))
    names = settings.model.routing.split(",")
    data = [_row(row, names if len(names) > 1 else []) for row in rows]
    output.result({"device": device.name, "rows": data}, rows_table(list(map(_for_people, data))))
    has_failed = any(row.result.outcome != Outcome.OK for row in rows)
    return ExitCode.FAILED if has_failed else ExitCode.DONE


def _bench_files(settings: RunSettings, files: list[Path], output: Output) -> int:
    device, sizes = bench_files(settings, files)
    output.note(device_line(device))
    numbers = {str(path): number for number, path in enumerate(files, 1)}
    data = [_file_row(size, entry, numbers) for size in sizes for entry in size.entries]
    shown = [_for_people({k: _shown(row[k]) for k in row if k != "reason"}) for row in data]
    found = totals(sizes)
    lines = _summary(found, numbers, len(sizes))
    document = {
        "device": device.name,
        "files": list(numbers),
        "baseline": found[0].source,
        "rows": data,
        "totals": [_total_json(total, numbers) for total in found],
        "summary": lines,
    }
    output.result(document, rows_table(shown), "\n".join(lines))
    for entry in (entry for size in sizes for entry in size.entries if entry.reason):
        output.note(f"{entry.source}: {entry.config}: {entry.reason}")
    return ExitCode.FAILED if any(row["us"] is None for row in data) else ExitCode.DONE


def _file_row(size: FilesAtSize, entry: FileTime, numbers: dict[str, int]) -> dict[str, Any]:
    """``file`` is its number, or what launches by itself; ratios are of times over the first
    entry's."""
    found = entry.ratio
    return {
        "batch_size": size.tokens,
        "file": numbers.get(entry.source, entry.source),
        "key": entry.key,
        "config": str(entry.config),
        "us": round(entry.geomean_us, 2) if entry.geomean_us else None,
        "ratio": round(found.middle, 4) if found else None,
        "interval": [round(found.low, 4), round(found.high, 4)] if found else None,
        "verdict": entry.verdict.value if entry.verdict else None,
        "wins": size.winner == entry.source,
        "reason": entry.reason or None,
    }


def _shown(value: Any) -> Any:
    if isinstance(value, list):
        return " to ".join(f"{bound:.4f}" for bound in value)
    return {True: "wins", False: ""}[value] if isinstance(value, bool) else value


def _for_people(row: dict[str, Any]) -> dict[str, Any]:
    """Return a row with its time, or why there is none, under "µs"."""
    us, outcome = row["us"], row.get("outcome")
    named = {"µs" if name == "us" else name: value for name, value in row.items()}
    named["µs"] = outcome if us is None else us
    return {name: value for name, value in named.items() if name != "outcome"}


def _total_json(total: FileTotal, numbers: dict[str, int]) -> dict[str, Any]:
    ratios = {"mean": total.mean, "mean_apart": total.mean_apart, "most": total.most}
    return {
        "file": numbers.get(total.source, total.source),
        "wins": total.wins,
        "verdicts": dict(total.verdicts),
        **{name: None if r is None else round(r, 4) for name, r in ratios.items()},
    }


def _summary(found: list[FileTotal], numbers: dict[str, int], sizes: int) -> list[str]:
    """Return a line for each source: how often it wins, and how it stands against the first."""
    lines = []
    for total in found:
        number = numbers.get(total.source)
        name, path = (f"file {number}", f": {total.source}") if number else (total.source, "")
        against = _against(total, found[0], numbers) if total.mean is not None else ""
        lines.append(f"{name}: wins at {total.wins} of {sizes} batch sizes{against}{path}")
    return lines


def _against(total: FileTotal, baseline: FileTotal, numbers: dict[str, int]) -> str:
    number = numbers.get(baseline.source)
    name = f"file {number}" if number else baseline.source
    apart = f", {total.mean_apart:.4f} where they differ" if total.mean_apart is not None else ""
    words = ", ".join(f"{count} {verdict}" for verdict, count in total.verdicts.items())
    mean = f"{total.mean:.4f} in the geometric mean{apart}, {total.most:.4f} at most"
    return f"; time over {name}: {mean} ({words})"


def parse_configs(numbers: Sequence[int]) -> list[Config]:
    """Read six numbers a config, in the engines' key order. Raises UsageError for another count,
    and for a number that no launch has."""
    size = len(_KEYS)
    if len(numbers) % size:
        raise UsageError(
            f"--configs has {len(numbers)} numbers; each config has {size}: {' '.join(_KEYS)}"
        )
    for number in numbers:
        LAUNCHES.check("--configs", number)
    return [
        Config.from_keys(dict(zip(_KEYS, numbers[start : start + size], strict=True)))
        for start in range(0, len(numbers), size)
    ]


def _by_routing(measurement: Measurement | None, names: list[str]) -> dict[str, float | None]:
    """Return the time under each of several routings; ``us`` is then their geometric mean."""
    if measurement is None:
        return dict.fromkeys(f"{name} us" for name in names)
    us = routing_us(measurement.samples_us, len(names)) if names else ()
    return {f"{name} us": round(each, 2) for name, each in zip(names, us, strict=False)}


def _row(row: BenchTime, routings: list[str]) -> dict[str, Any]:
    measurement, resources = row.result.measurement, row.result.resources
    halves = {}
    if measurement and measurement.up_us:
        parts = {"up_us": measurement.up_us, "down_us": measurement.down_us}
        halves = {k: round(typical_us(us, measurement.routings), 2) for k, us in parts.items()}
    return {
        "batch_size": row.tokens,
        "source": row.source,
        "config": str(row.config),
        "us": round(measurement.geomean_us, 2) if measurement else None,
        **_by_routing(measurement, routings),
        **halves,
        "outcome": row.result.outcome.value,
        "registers": resources.registers if resources else None,
        "spill_bytes": resources.spill_bytes if resources else None,
        "shared_bytes": resources.shared_bytes if resources else None,
        "reason": row.result.reason or None,
    }
