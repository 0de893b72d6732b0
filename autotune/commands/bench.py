"""``bench``: times given configs, without tuning."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from autotune.api.asked import cache_asked, device_asked, engines_written, of_fields
from autotune.backends.stand_in import error_lines
from autotune.commands.flag_kinds import Many, paths
from autotune.commands.flags import (
    DeviceFlags,
    EngineFlag,
    MeasuringFlags,
    engine_names,
)
from autotune.commands.model_flags import ModelFlags, model_settings
from autotune.commands.output import Output
from autotune.documents.measuring import (
    BenchDocument,
    BenchFileRow,
    BenchFilesDocument,
    BenchFileTotal,
    BenchRow,
)
from autotune.engines import ENGINES
from autotune.errors import UsageError
from autotune.exit_codes import ExitCode
from autotune.report.terminal.run_display import device_line
from autotune.report.terminal.tables import rows_table
from autotune.settings import RunSettings
from autotune.spec.config import Config, config_from_keys
from autotune.spec.measurement import Measurement, routing_us, typical_us
from autotune.spec.ranges import LAUNCHES
from autotune.studies.outcome import Outcome
from autotune.tuning.comparison.bench import BenchTime, bench, bench_files, measured_provider
from autotune.tuning.comparison.config_files import FilesAtSize, FileTime, FileTotal, totals

_PANEL = "Configs (none: what the engines launch by themselves)"
_MEASURED = ("up_us", "down_us", "registers", "spill_bytes", "shared_bytes", "reason")
"""Further columns, where some row has them."""
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
    return of_fields(
        RunSettings,
        vars(flags),
        model=model_settings(flags, flags.model),
        device=device_asked(flags.device),
        engines=engines_written(engine_names(flags), flags.provider),
        cache_dir=cache_asked(flags.cache_dir),
    )


def run(flags: Flags, output: Output) -> int:
    """Time given configs. FAILED where any could not be measured."""
    configs, files = parse_configs(flags.configs), [*dict.fromkeys(flags.config_files)]
    settings = _settings(flags)
    if files and not configs and (len(files) > 1 or measured_provider(settings) in ENGINES):
        return _bench_files(settings, files, output)
    device, rows = bench(settings, configs, files)
    output.note("\n".join([device_line(device), *error_lines([device])]))
    names = settings.model.routing.split(",")
    names = names if len(names) > 1 else []
    found = tuple(_row(row, names) for row in rows)
    table = rows_table([_for_people(row, names) for row in found])
    output.result(BenchDocument(device=device.title, rows=found), table)
    has_failed = any(row.result.outcome != Outcome.OK for row in rows)
    return ExitCode.FAILED if has_failed else ExitCode.DONE


def _bench_files(settings: RunSettings, files: list[Path], output: Output) -> int:
    device, sizes = bench_files(settings, files)
    output.note("\n".join([device_line(device), *error_lines([device])]))
    numbers = {str(path): number for number, path in enumerate(files, 1)}
    rows = tuple(_file_row(size, entry, numbers) for size in sizes for entry in size.entries)
    found = totals(sizes)
    lines = _summary(found, numbers, len(sizes))
    document = BenchFilesDocument(
        device=device.title,
        files=tuple(files),
        baseline=found[0].source,
        rows=rows,
        totals=tuple(_total(total, numbers) for total in found),
        summary=tuple(lines),
    )
    output.result(document, rows_table(list(map(_file_for_people, rows))), "\n".join(lines))
    for entry in (entry for size in sizes for entry in size.entries if entry.reason):
        output.note(f"{entry.source}: {entry.config}: {entry.reason}")
    return ExitCode.FAILED if any(row.us is None for row in rows) else ExitCode.DONE


def _file_row(size: FilesAtSize, entry: FileTime, numbers: dict[str, int]) -> BenchFileRow:
    return BenchFileRow(
        batch_size=size.tokens,
        file=numbers.get(entry.source),
        source=entry.source,
        key=entry.key,
        config=entry.config.as_keys(),
        us=entry.geomean_us,
        ratio=entry.ratio,
        interval=entry.interval,
        verdict=entry.verdict.value if entry.verdict else None,
        wins=size.winner == entry.source,
        reason=entry.reason or None,
    )


def _file_for_people(row: BenchFileRow) -> dict[str, Any]:
    """Return a row with its file's number, and why there is no time below the table."""
    said = row.as_json()
    return {
        "batch_size": row.batch_size,
        "file": row.file or row.source,
        "key": row.key,
        "config": str(config_from_keys(row.config)),
        "µs": said["us"],
        "ratio": said["ratio"],
        "interval": " to ".join(f"{bound:.4f}" for bound in row.interval) if row.interval else None,
        "verdict": row.verdict,
        "wins": "wins" if row.wins else "",
    }


def _total(total: FileTotal, numbers: dict[str, int]) -> BenchFileTotal:
    return BenchFileTotal(
        file=numbers.get(total.source),
        source=total.source,
        wins=total.wins,
        verdicts=dict(total.verdicts),
        mean=total.mean,
        mean_apart=total.mean_apart,
        most=total.most,
    )


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


def _row(row: BenchTime, routings: list[str]) -> BenchRow:
    measurement, resources = row.result.measurement, row.result.resources
    by_routing: tuple[float, ...] = ()
    if measurement and routings:
        by_routing = routing_us(measurement.samples_us, len(routings))
    return BenchRow(
        batch_size=row.tokens,
        source=row.source,
        config=row.config.as_keys(),
        us=measurement.geomean_us if measurement else None,
        routing_us=dict(zip(routings, by_routing, strict=False)),
        up_us=_half_us(measurement, measurement.up_us) if measurement else None,
        down_us=_half_us(measurement, measurement.down_us) if measurement else None,
        outcome=row.result.outcome.value,
        registers=resources.registers if resources else None,
        spill_bytes=resources.spill_bytes if resources else None,
        shared_bytes=resources.shared_bytes if resources else None,
        reason=row.result.reason or None,
    )


def _half_us(measurement: Measurement, samples_us: Sequence[float]) -> float | None:
    """Return the time of one GEMM; None where the two are not timed apart."""
    return typical_us(samples_us, measurement.routings) if samples_us else None


def _for_people(row: BenchRow, routings: list[str]) -> dict[str, Any]:
    """Return a row with its time, or why there is none, and a column for each of several
    routings."""
    said = row.as_json()
    by_routing = {f"{name} us": said["routing_us"].get(name) for name in routings}
    return {
        "batch_size": row.batch_size,
        "source": row.source,
        "config": str(config_from_keys(row.config)),
        "µs": row.outcome if row.us is None else said["us"],
        **by_routing,
        **{name: said[name] for name in _MEASURED},
    }
