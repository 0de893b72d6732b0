"""The commands where nothing but the base install is there, and what they say of the rest."""

from __future__ import annotations

import os
import subprocess
import tomllib
import venv
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from small_landscape import SHAPE, save_landscape  # type: ignore[import-not-found]

from autotune.extras import EXTRAS

_ROOT = Path(__file__).parents[1]
_BASE = tomllib.loads((_ROOT / "pyproject.toml").read_text())["project"]["dependencies"]


def _needed(requirements: list[str]) -> dict[str, metadata.Distribution]:
    """Return the distributions of this environment that pip would install for ``requirements``."""
    found: dict[str, metadata.Distribution] = {}
    wanted = [Requirement(line) for line in requirements]
    for requirement in wanted:
        if requirement.name not in found:
            found[requirement.name] = metadata.distribution(requirement.name)
            wanted += _required(found[requirement.name], requirement.extras)
    return found


def _required(by: metadata.Distribution, extras: set[str]) -> Iterator[Requirement]:
    for line in by.requires or ():
        need = Requirement(line)
        if need.marker is None or any(need.marker.evaluate({"extra": e}) for e in ("", *extras)):
            yield need


class Base:
    """A folder to run commands in, by a Python that has the base install alone: links to what this
    one has of it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        venv.create(folder / "venv", symlinks=True)
        [packages] = (folder / "venv" / "lib").glob("python*/site-packages")
        for distribution in _needed(_BASE).values():
            for top in {file.parts[0] for file in distribution.files or ()} - {"..", "__pycache__"}:
                if not (packages / top).exists():
                    (packages / top).symlink_to(str(distribution.locate_file(top)))

    def run(self, *words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [self.folder / "venv" / "bin" / "python", "-m", "autotune", *words],
            cwd=self.folder,
            env=os.environ | {"PYTHONPATH": str(_ROOT), "XDG_CACHE_HOME": str(self.folder)},
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Base:
    """With a finished run, of this Python's base install alone too."""
    made = Base(tmp_path_factory.mktemp("base"))
    landscape = save_landscape(made.folder / "small.npz")
    words = ["--shape", SHAPE, "--device", f"replay:{landscape}", "--batch-size", "1", "64"]
    done = made.run("run", *words, "--trials", "12")
    assert done.returncode == 0, done.stderr
    assert "speed-up" in done.stdout
    return made


def test_no_package_of_an_extra_is_there(base: Base) -> None:
    listed = base.run("doctor")
    assert listed.returncode == 0, listed.stderr
    by_row = {line.split()[1]: line for line in listed.stdout.splitlines() if "extra" in line}
    assert by_row.keys() == EXTRAS.keys()
    for extra, packages in EXTRAS.items():
        assert "absent" in by_row[extra]
        assert f"no {packages[-1]}: pip install 'moe-autotune[{extra}]'" in by_row[extra]


@pytest.mark.parametrize(
    "words",
    ["status", "best", "export", "storage check", "models", "run --help", "report --help"],
)
def test_a_measuring_machine_needs_no_extra(base: Base, words: str) -> None:
    done = base.run(*words.split())
    assert done.returncode == 0, done.stderr
    assert done.stdout


def test_an_engine_file_is_checked(base: Base) -> None:
    [file] = (base.folder / "configs").rglob("vllm/*.json")
    done = base.run("check", str(file), "--engine", "vllm")
    assert done.returncode == 0, done.stderr


def test_comparing_leaves_out_the_page_and_says_so(base: Base) -> None:
    cpu = ["--device", "cpu", "--provider", "torch", "--batch-size", "1"]
    done = base.run("compare", "--shape", SHAPE, *cpu, "--save-path", "compared")
    assert done.returncode == 0, done.stderr
    assert "torch" in done.stdout
    assert done.stderr.count("moe-autotune[report]") == 1
    assert {path.suffix for path in (base.folder / "compared").iterdir()} == {".csv"}


@pytest.mark.parametrize(
    ("words", "extra"),
    [
        ("report", "report"),
        ("routing-stats topk_ids", "report"),
        ("dashboard", "dashboard"),
        ("capture-routing --model any", "capture"),
        ("status --storage postgresql://me@localhost/none", "postgres"),
        ("run --model qwen3-30b-a3b --storage journal:s --launcher ray", "ray"),
    ],
)
def test_what_needs_an_extra_names_it(base: Base, words: str, extra: str) -> None:
    done = base.run(*words.split())
    assert done.returncode == 2
    assert done.stdout == ""
    line = done.stderr.splitlines()[-1]
    assert line.startswith("autotune: error: ")
    assert f"pip install 'moe-autotune[{extra}]'" in line
