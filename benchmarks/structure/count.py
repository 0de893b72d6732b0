"""Counts what makes a tree hard or easy to enter.

    python benchmarks/structure/count.py                # this checkout
    python benchmarks/structure/count.py --tree FOLDER  # another one, such as an older commit's
    python benchmarks/structure/count.py --no-trial     # leave out the run that is traced

Prints, for the package ``autotune``: files, lines, functions and their median length, files that
exactly one other file imports, and files that a trial passes through. The last is measured: a
replay of a recorded landscape runs with every process traced (``trace/sitecustomize.py``), and the
files are those of which a function was called between the ends of trials 10 and 30 of 40. They
hold what happens beside a trial too, such as drawing the progress bar.
"""

from __future__ import annotations

import argparse
import ast
import os
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from statistics import median

HERE = Path(__file__).parent
LANDSCAPE = HERE.parent / "landscapes" / "qwen3-30b-a3b_tp1_bf16.npz"
TRIALS = 40
FIRST, LAST = 10, 30
"""Trials between whose ends calls are counted."""


@dataclass(frozen=True, slots=True)
class File:
    """One module of the package."""

    module: str
    lines: int
    functions: tuple[int, ...]
    """Lines of each function."""
    imports: frozenset[str]
    """Names imported from the package: modules, and members of modules."""


def read(path: Path, root: Path) -> File:
    text = path.read_text(encoding="utf-8")
    tree = ast.parse(text)
    lengths = [
        node.end_lineno - node.lineno + 1
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.end_lineno
    ]
    module = ".".join(path.relative_to(root).with_suffix("").parts).removesuffix(".__init__")
    return File(module, len(text.splitlines()), tuple(lengths), frozenset(_imports(tree)))


def _imports(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("autotune"):
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name.startswith("autotune"))


def importers(files: list[File]) -> dict[str, set[str]]:
    """Module → the modules that import it, or a member of it."""
    found: dict[str, set[str]] = {file.module: set() for file in files}
    for file in files:
        for name in file.imports:
            module = name if name in found else name.rpartition(".")[0]
            if module in found:
                found[module].add(file.module)
    return found


def traced_files(tree: Path) -> dict[str, set[str]]:
    """Process (``parent``, ``worker`` …, in the order of their start) → files of which a function
    ran while the middle trials of a replay did."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        storage = folder / "traced.db"
        calls = folder / "calls"
        calls.mkdir()
        command = [sys.executable, "-m", "autotune", "run", "--quiet"]
        command += ["--model", "Qwen/Qwen3-30B-A3B", "--batch-size", "256", "--kernel", "fused"]
        command += ["--device", f"replay:{LANDSCAPE}", "--trials", str(TRIALS), "--stop-gain", "0"]
        command += ["--storage", f"sqlite:///{storage}", "--output-dir", str(folder / "configs")]
        paths = [str(HERE / "trace"), str(tree), os.environ.get("PYTHONPATH", "")]
        environment = os.environ | {
            "PYTHONPATH": os.pathsep.join(filter(None, paths)),
            "AUTOTUNE_TRACE_TREE": str(tree / "autotune"),
            "AUTOTUNE_TRACE_INTO": str(calls),
        }
        subprocess.run(command, env=environment, cwd=folder, check=True, capture_output=True)
        began, ended = _window(storage)
        return {
            file.stem: {
                line.split(" ", 1)[1]
                for line in file.read_text(encoding="utf-8").splitlines()
                if began <= float(line.split(" ", 1)[0]) <= ended
            }
            for file in sorted(calls.iterdir())
        }


def _window(storage: Path) -> tuple[float, float]:
    """Seconds since the epoch at which trials FIRST and LAST of the tuned study ended."""
    query = (
        "select datetime_complete from trials where study_id in "
        "(select study_id from studies where study_name not like 'autotune%') "
        "and datetime_complete is not null order by datetime_complete"
    )
    with sqlite3.connect(storage) as database:
        ends = [datetime.fromisoformat(row[0]).timestamp() for row in database.execute(query)]
    return ends[FIRST - 1], ends[LAST - 1]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--tree", type=Path, default=HERE.parents[1])
    parser.add_argument("--no-trial", action="store_true", help="run nothing")
    parser.add_argument("--list", action="store_true", help="name the files that are counted")
    arguments = parser.parse_args()
    tree = arguments.tree.resolve()
    files = [read(path, tree) for path in sorted((tree / "autotune").rglob("*.py"))]
    lengths = [length for file in files for length in file.functions]
    single = {m: by for m, by in importers(files).items() if len(by) == 1}
    print(f"files                                {len(files)}")
    print(f"lines                                {sum(file.lines for file in files)}")
    print(f"lines of a file, median              {median(file.lines for file in files):g}")
    print(f"lines of a file, most                {max(file.lines for file in files)}")
    print(f"functions                            {len(lengths)}")
    print(f"lines of a function, median          {median(lengths):g}")
    print(f"functions above 40 lines             {sum(length > 40 for length in lengths)}")
    print(f"files imported by exactly one other  {len(single)}")
    if arguments.list:
        for module, by in single.items():
            print(f"    {module} <- {next(iter(by))}")
    if arguments.no_trial:
        return
    by_process = traced_files(tree)
    every = set().union(*by_process.values())
    print(f"files that a trial passes through    {len(every)}")
    for process, names in by_process.items():
        if names:
            print(f"    process {process}: {len(names)}")
            if arguments.list:
                print("".join(f"        {name}\n" for name in sorted(names)), end="")


if __name__ == "__main__":
    main()
