"""``check``: is an engine file legal, and would the engine find it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from autotune.api.checks import EngineName, check
from autotune.commands.output import Output
from autotune.documents.files import CheckDocument, CheckedFile, FindingRow
from autotune.engines import CheckReport
from autotune.exit_codes import ExitCode


@dataclass(frozen=True, kw_only=True)
class Flags:
    """The files, and who is to read them."""

    files: Annotated[tuple[Path, ...], typer.Argument(metavar="FILE", help="engines' files")]
    engine: Annotated[EngineName, typer.Option("--engine", help="whose file it is to be")]
    triton_version: Annotated[
        str | None, typer.Option("--triton-version", help="of the serving machine, as 3.6.0")
    ] = None


def run(flags: Flags, output: Output) -> int:
    """Say whether each file is legal and would be found; FAILED where one has errors."""
    reports = [
        check(path, engine=flags.engine, triton_version=flags.triton_version)
        for path in flags.files
    ]
    output.result(
        CheckDocument(files=tuple(map(_checked, reports))),
        *("\n".join(_check_lines(report)) for report in reports),
    )
    return ExitCode.DONE if all(report.ok for report in reports) else ExitCode.FAILED


def _checked(report: CheckReport) -> CheckedFile:
    return CheckedFile(
        path=report.path,
        engine=report.engine,
        findings=tuple(
            FindingRow(level=each.level.value, key=each.key, message=each.message)
            for each in report.findings
        ),
        env={report.env_variable: report.env_folder},
        reads=report.reads,
    )


def _check_lines(report: CheckReport) -> list[str]:
    lines = [f"{report.path} ({report.engine})"]
    for finding in report.findings:
        key = f" [{finding.key}]" if finding.key else ""
        lines.append(f"  {finding.level.value}{key}: {finding.message}")
    if not report.findings:
        lines.append("  nothing wrong")
    if report.env_folder is not None:
        lines.append(f"  found with {report.env_variable}={report.env_folder}")
    return lines
