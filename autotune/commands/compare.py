"""``compare``: kernels side by side, in plots and data."""

from __future__ import annotations

import argparse
import re
from pathlib import Path

from autotune.backends.detect import has_gpu
from autotune.backends.gpu.providers import PROVIDERS
from autotune.backends.protocol import MeasurerOptions
from autotune.commands.flags import add_engine_flag, cache_dir, engine_names
from autotune.commands.model_flags import add_model_flags, model_settings
from autotune.commands.output import Output
from autotune.errors import UsageError
from autotune.exit_codes import ExitCode
from autotune.report.terminal.tables import rows_table
from autotune.spec.ranges import SECONDS
from autotune.tuning.comparison.compare import CompareSettings, compare
from autotune.tuning.comparison.variants import ConfigSources

DEFAULT_SIZES = (1, 2, 3, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192)
"""The ranges of the engines' scripts in one: 1 to 4 (torch.compile), 1 to 512 (vLLM against
SGLang, by powers of two here), 128 to 8192 (SGLang)."""
CPU_SIZES = DEFAULT_SIZES[:4]
SAVE_PATH = Path("configs/benchmark_ops/fused_moe")


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Add the flags of the engines' comparison scripts, and ours."""
    add_model_flags(parser, "default: 1 to 4 and powers of two to 8192; on the CPU 1 to 4")
    parser.set_defaults(batch_sizes=None)
    group = parser.add_argument_group("comparison")
    group.add_argument(
        "--provider",
        nargs="+",
        choices=tuple(PROVIDERS),
        default=list(PROVIDERS),
        help="default: all; an engine that is not installed is left out, and said so",
    )
    group.add_argument(
        "--config-file",
        nargs="+",
        default=[],
        metavar="[LABEL:]F",
        help="engine files: a line each with our kernels, and with each installed engine's",
    )
    add_engine_flag(
        group,
        "whose defaults and files our kernels are timed with, each on its own problem (both)",
    )
    group.add_argument(
        "--device", default="auto", help="auto, cuda, cuda:INDEX or cpu (PyTorch's ways alone)"
    )
    group.add_argument("--l2", choices=("cold", "warm"), default="cold")
    group.add_argument("--cache-dir", type=Path, help="default: the user's cache")
    group.add_argument(
        "--output-dir", type=Path, default=Path("configs"), help="where tuned files are (configs)"
    )
    group.add_argument(
        "--save-path", type=Path, default=SAVE_PATH, metavar="D", help=f"results ({SAVE_PATH})"
    )
    group.add_argument(
        "--run-timeout", type=float, default=600.0, metavar="S", help="seconds for one line (600)"
    )


def run(flags: argparse.Namespace, output: Output) -> int:
    """Measure, write, say where. FAILED where a provider is unknown, crashed or was wrong."""
    from autotune.report.comparison import point_rows, table_rows, write_comparison

    settings = _settings(flags)
    if settings.gpu is None:
        output.note("on the CPU: PyTorch's ways alone, and their times say nothing of any GPU")
    comparison = compare(settings)
    try:
        written = write_comparison(comparison, flags.save_path)
    except OSError as error:
        raise UsageError(
            f"--save-path {flags.save_path} cannot be written: {error.strerror}. "
            "Give a folder that you may write"
        ) from error
    output.result(
        {
            "model": comparison.model,
            "device": comparison.device.name if comparison.device else "cpu",
            "versions": {name: version for name, (version, _) in comparison.about.items()},
            "layers": comparison.layer_words,
            "rows": list(point_rows(comparison)),
            "skipped": comparison.skipped,
            "files": [str(path) for path in written],
        },
        rows_table(table_rows(comparison)),
        "\n".join(f"wrote {path}" for path in written),
    )
    if comparison.layer_words:
        layers = "; ".join(f"{name}: {words}" for name, words in comparison.layer_words.items())
        output.note(f"the engines serve unlike layers, and their lines compute them: {layers}")
    for name, reason in comparison.skipped.items():
        output.note(f"left out: {name}: {reason}")
    return ExitCode.FAILED if comparison.failed else ExitCode.DONE


def _settings(flags: argparse.Namespace) -> CompareSettings:
    SECONDS.check("--run-timeout", flags.run_timeout)
    gpu = _gpu(flags.device)
    flags.batch_sizes = flags.batch_sizes or list(CPU_SIZES if gpu is None else DEFAULT_SIZES)
    return CompareSettings(
        model=model_settings(flags),
        gpu=gpu,
        providers=tuple(dict.fromkeys(flags.provider)),
        sources=ConfigSources(
            engines=engine_names(flags),
            config_files=tuple(
                _labelled(text, number) for number, text in enumerate(flags.config_file, 1)
            ),
            output_dir=flags.output_dir.absolute(),
        ),
        options=MeasurerOptions(cache_dir=cache_dir(flags), cold_l2=flags.l2 == "cold"),
        run_timeout_s=flags.run_timeout,
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
