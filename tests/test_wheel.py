"""What a wheel of ours puts into somebody's environment."""

from __future__ import annotations

import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def _pip(*words: str) -> None:
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", *words]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"  # a copy: what an earlier build left behind must not get in
    leave = shutil.ignore_patterns(".git", "build", "*.egg-info", "__pycache__", ".*_cache")
    shutil.copytree(ROOT, source, symlinks=True, ignore=leave)
    _pip("wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", str(folder), str(source))
    [path] = folder.glob("*.whl")
    return path


def test_autotune_alone_at_the_top(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    tops = {name.split("/")[0] for name in names}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"autotune"}


def test_every_module_and_data_file_is_inside(wheel: Path) -> None:
    inside = set(zipfile.ZipFile(wheel).namelist())
    files = (path for path in (ROOT / "autotune").rglob("*") if path.is_file())
    ours = {path.relative_to(ROOT).as_posix() for path in files if "__pycache__" not in path.parts}
    assert ours - inside == set()
    assert "autotune/models/catalogue/models.jsonl" in inside


def test_it_installs_beside_a_package_named_kernels(wheel: Path, tmp_path: Path) -> None:
    theirs = tmp_path / "kernels" / "__init__.py"
    theirs.parent.mkdir()
    theirs.write_text("MINE = True\n")
    _pip("install", "--no-deps", "--no-index", "--target", str(tmp_path), str(wheel))
    assert theirs.read_text() == "MINE = True\n"
    assert [path.name for path in theirs.parent.iterdir()] == ["__init__.py"]
    assert not (tmp_path / "studies").exists()
    assert (tmp_path / "autotune" / "__main__.py").exists()


def test_the_links_show_kernels_and_studies_at_the_top_of_the_repository() -> None:
    for name in ("kernels", "studies"):
        assert (ROOT / name).is_symlink()
        assert (ROOT / name).resolve() == ROOT / "autotune" / name
