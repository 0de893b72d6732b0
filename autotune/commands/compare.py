"""``compare``: kernels side by side, in plots and data."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

import typer

from autotune.api.asked import cache_asked
from autotune.api.defaults import DEFAULT_OUTPUT
from autotune.backends.detect import has_gpu
from autotune.backends.gpu.providers import PROVIDERS
from autotune.backends.protocol import MeasurerOptions
from autotune.commands.flag_kinds import (
    Beside,
    Many,
    OneOf,
    ShownDefault,
    at_commas,
    existing_beside,
    is_there,
)
from autotune.commands.flags import EngineFlag, RunTimeout, TimingFlags, engine_names
from autotune.commands.model_flags import BatchSizes, ModelFlags, model_settings
from autotune.commands.output import Output
from autotune.documents.measuring import CompareDocument
from autotune.errors import MissingExtraError, UsageError
from autotune.exit_codes import ExitCode
from autotune.report.terminal.tables import rows_table
from autotune.spec.ranges import SECONDS
from autotune.tuning.comparison.compare import CompareSettings, Comparison, compare
from autotune.tuning.comparison.variants import ConfigSources
from autotune.tuning.file_writer import check_output

DEFAULT_SIZES = (1, 2, 3, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192)
"""The ranges of the engines' scripts in one: 1 to 4 (torch.compile), 1 to 512 (vLLM against
SGLang, by powers of two here), 128 to 8192 (SGLang)."""
CPU_SIZES = DEFAULT_SIZES[:4]
SAVE_PATH = Path("configs/benchmark_ops/fused_moe")


def _labelled_paths(word: str) -> list[str]:
    """Return the files between commas; one that is there is taken as it stands."""
    is_one = is_there(word) or is_there(word.partition(":")[2])
    return [word] if is_one else at_commas(word)


@dataclass(frozen=True, kw_only=True)
class Flags(ModelFlags, TimingFlags, EngineFlag):
    """The flags of the engines' comparison scripts, and ours."""

    panel = "Comparison"

    batch_sizes: Annotated[
        BatchSizes, ShownDefault("1 to 4 and powers of two to 8192; on the CPU 1 to 4")
    ] = ()
    provider: Annotated[
        tuple[str, ...],
        typer.Option(
            "--provider",
            show_default="all",
            help="whose kernels; an engine that is not installed is left out, and said so",
        ),
        OneOf(tuple(PROVIDERS)),
        Many(),
    ] = tuple(PROVIDERS)
    config_files: Annotated[
        tuple[str, ...],
        typer.Option(
            "--config-file",
            metavar="[LABEL:]PATH",
            help="engine files: a line each with our kernels, and with each installed engine's",
        ),
        Many(_labelled_paths),
        Beside(existing_beside),
    ] = ()
    device: Annotated[
        str, typer.Option("--device", help="auto, cuda, cuda:INDEX or cpu (PyTorch's ways alone)")
    ] = "auto"
    output_dir: Annotated[Path, typer.Option("--output-dir", help="where tuned files are")] = (
        DEFAULT_OUTPUT
    )
    save_path: Annotated[Path, typer.Option("--save-path", help="folder of the results")] = (
        SAVE_PATH
    )
    run_timeout_s: RunTimeout = 600.0


def run(flags: Flags, output: Output) -> int:
    """Measure, write, say where. FAILED where a provider is unknown, crashed or was wrong."""
    from autotune.report.comparison import points_of, table_rows, write_data

    settings, write_page = _settings(flags), _page_writer(output)
    if settings.gpu is None:
        output.note("on the CPU: PyTorch's ways alone, and their times say nothing of any GPU")
    check_output(flags.save_path, "--save-path")
    comparison = compare(settings)
    try:
        pictures = write_page(comparison, flags.save_path)
        written = [*pictures, *write_data(comparison, flags.save_path)]
    except OSError as error:
        raise UsageError(
            f"--save-path {flags.save_path} cannot be written: {error.strerror}. "
            "Give a folder that you may write"
        ) from error
    output.result(
        CompareDocument(
            model=comparison.model,
            device=comparison.device.title if comparison.device else "cpu",
            versions={name: version for name, (version, _) in comparison.about.items()},
            layers=comparison.layer_words,
            rows=tuple(points_of(comparison)),
            skipped=comparison.skipped,
            files=tuple(written),
        ),
        rows_table(table_rows(comparison)),
        "\n".join(f"wrote {path}" for path in written),
    )
    if comparison.layer_words:
        layers = "; ".join(f"{name}: {words}" for name, words in comparison.layer_words.items())
        output.note(f"the engines serve unlike layers, and their lines compute them: {layers}")
    for name, reason in comparison.skipped.items():
        output.note(f"left out: {name}: {reason}")
    return ExitCode.FAILED if comparison.failed else ExitCode.DONE


def _page_writer(output: Output) -> Callable[[Comparison, Path], list[Path]]:
    """Return what writes the page and its pictures: nothing where what draws them is not installed,
    which is said before it takes minutes to measure."""
    try:
        from autotune.report.html.provider_page import write_page
    except MissingExtraError as error:
        output.note(f"note: no page and no pictures, only CSV files: {error}")
        return lambda *_: []
    return write_page


def _settings(flags: Flags) -> CompareSettings:
    SECONDS.check("--run-timeout", flags.run_timeout_s)
    gpu = _gpu(flags.device)
    sizes = flags.batch_sizes or (CPU_SIZES if gpu is None else DEFAULT_SIZES)
    return CompareSettings(
        model=model_settings(replace(flags, batch_sizes=sizes), flags.model),
        gpu=gpu,
        providers=tuple(dict.fromkeys(flags.provider)),
        sources=ConfigSources(
            engines=engine_names(flags),
            config_files=tuple(
                _labelled(text, number) for number, text in enumerate(flags.config_files, 1)
            ),
            output_dir=flags.output_dir.absolute(),
        ),
        options=MeasurerOptions(cache_dir=cache_asked(flags.cache_dir), cold_l2=flags.l2 == "cold"),
        run_timeout_s=flags.run_timeout_s,
    )


def _gpu(device: str) -> int | None:
    """Return the GPU's index, None for the CPU. Raises UsageError."""
    if device == "cpu" or (device == "auto" and not has_gpu()):
        return None
    match = re.fullmatch(r"auto|cuda(?::(\d+))?", device)
    if match is None:
        raise UsageError(f"--device {device}: allowed are auto, cuda, cuda:INDEX and cpu")
    return int(match[1] or 0)


def _labelled(text: str, number: int) -> tuple[str, Path]:
    """Read ``LABEL:PATH``, or a path, whose label is "file 1", "file 2", …"""
    label, separator, path = text.partition(":")
    labelled = bool(separator) and not Path(text).exists()
    found = Path(path if labelled else text)
    if not found.is_file():
        raise UsageError(f"--config-file {found} is not a file; give an engine's JSON file")
    return (label if labelled else f"file {number}"), found.absolute()
