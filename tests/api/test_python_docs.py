"""The first example of docs/python.md, as it stands."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

_ROOT = Path(__file__).parents[2]
_NO_GPU = "no GPU found on this machine: going on with --device estimate:NVIDIA_H200"
_BLOCK = re.compile(r"```python\n(.*?)```", re.DOTALL)


def test_the_first_example_runs_as_it_stands(tmp_path: Path) -> None:
    first = _BLOCK.findall((_ROOT / "docs" / "python.md").read_text())[0]
    (tmp_path / "first.py").write_text(first)
    done = subprocess.run(
        [sys.executable, "first.py"],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(_ROOT), "XDG_CACHE_HOME": str(tmp_path / "cache")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert set(done.stderr.splitlines()) <= {_NO_GPU}
    assert "speed-up" in done.stdout
    assert len(re.findall(r"(?m)^/.*\.json$", done.stdout)) == 3


def test_every_example_is_python() -> None:
    for block in _BLOCK.findall((_ROOT / "docs" / "python.md").read_text()):
        compile(block, "docs/python.md", "exec")
