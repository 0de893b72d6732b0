from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import measurer_cases  # type: ignore[import-not-found]
import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="session")
def compiled_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache folder in which another process compiled the cases."""
    folder = tmp_path_factory.mktemp("cache")
    env = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    env["PYTHONPATH"] = os.pathsep.join(filter(None, (str(ROOT), env.get("PYTHONPATH"))))
    command = [sys.executable, measurer_cases.__file__, str(folder)]
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["ok"] * len(measurer_cases.COMPILED), done.stdout
    return folder
