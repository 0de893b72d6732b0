"""Prints what ``check`` and ``convert`` say of every config file in the engines' wheels.

    pip download --no-deps --dest wheels sglang==0.5.23 vllm==0.33.0
    python benchmarks/names/check_shipped.py wheels > judgements.txt

A folder with unpacked wheels does, too. Each file has a line with its judgement by ``check``, and
one for what ``convert`` makes of it for the other engine; counts by reason follow, with ``#`` for
numbers. Fails where a converted file is not legal.
"""

from __future__ import annotations

import re
import sys
import zipfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

from autotune.engines import ENGINES, CheckReport, Engine, check_file
from autotune.engines.convert import convert_file
from autotune.engines.entries import load_body
from autotune.engines.names import VERSION_KEY
from autotune.errors import EngineFileError

ASSUMED_TRITON = "3.6.0"
"""For vLLM's files that do not say for which Triton they are."""


def shipped_files(engine: Engine, folder: Path, scratch: Path) -> list[Path]:
    """Return the engine's config files, unpacked into ``scratch`` from a wheel in ``folder``."""
    wheel = next(folder.glob(f"{engine.name}-*.whl"), None)
    if wheel is not None:
        with zipfile.ZipFile(wheel) as archive:
            archive.extractall(scratch, [m for m in archive.namelist() if m.endswith(".json")])
    package = (scratch if wheel else folder) / engine.name
    roots = (package / folder for folder in engine.shipped)
    root = next((root for root in roots if root.is_dir()), None)
    return sorted(root.rglob("*.json")) if root else []


def judgement(report: CheckReport) -> list[str]:
    """Return each finding once, however many entries have it."""
    found = (f"{finding.level}: {finding.message}" for finding in report.findings)
    return list(dict.fromkeys(found)) or ["nothing wrong"]


def converted(path: Path, source: Engine, target: Engine, output: Path) -> list[str]:
    """Return what ``convert`` changed, or why it refused. Raises where the result is illegal."""
    version = None
    if source.name == "vllm" and VERSION_KEY not in load_body(path):
        version = ASSUMED_TRITON
    try:
        done = convert_file(path, source, target, output, triton_version=version)
    except EngineFileError as error:
        return [f"refused: {error}"]
    report = check_file(done.path, target)
    if not report.ok:
        raise AssertionError(f"{path} became {done.path}: {judgement(report)}")
    return list(done.changes)


def reason(message: str, path: Path) -> str:
    """Return a message without what differs from file to file."""
    message = re.sub(r" \(at .*\)$", "", message.replace(path.name, "FILE"))
    message = re.sub(r"/\S*/", "", re.sub(r"E=\d+,N=\d+,.*?\.json", "OTHER", message))
    return re.sub(r"\d+(, \d+)*", "#", message)


def _lines(folder: Path, scratch: Path) -> Iterator[str]:
    for source in ENGINES.values():
        (target,) = (engine for engine in ENGINES.values() if engine is not source)
        counts: dict[str, Counter[str]] = {"check": Counter(), "convert": Counter()}
        files = shipped_files(source, folder, scratch)
        for number, path in enumerate(files):
            said = {
                "check": judgement(check_file(path, source)),
                "convert": converted(path, source, target, scratch / f"{source.name}{number}"),
            }
            for command, messages in said.items():
                yield f"{source.name} {path.parent.name}/{path.name} {command}: {messages}"
                counts[command].update({reason(message, path) for message in messages})
        for command, counted in counts.items():
            yield f"\n{source.title}, {command}: {len(files)} files"
            yield from (f"{count:5d}  {message}" for message, count in counted.most_common())


def main() -> None:
    """Print the judgements of the wheels in the folder that is given."""
    with TemporaryDirectory() as scratch:
        for line in _lines(Path(sys.argv[1]), Path(scratch)):
            print(line)


if __name__ == "__main__":
    main()
