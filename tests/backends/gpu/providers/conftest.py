"""Engines that come and go with a test."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from standins import write_engine  # type: ignore[import-not-found]
from triton.runtime.jit import JITFunction

_OF_ENGINES = ("sglang", "vllm", "kernels", "standin_math")


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Path]]:
    """Puts the stand-in of an engine's version on the import path of this test alone."""

    def write(engine: str, version: str) -> Path:
        root: Path = write_engine(tmp_path / f"{engine}-{version}", engine, version)
        monkeypatch.syspath_prepend(str(root))
        importlib.invalidate_caches()
        return root

    _forget()
    yield write
    _forget()


@pytest.fixture
def launched_in_python(monkeypatch: pytest.MonkeyPatch) -> None:
    """A stand-in launches kernels, too. Without a GPU that runs a kernel's function."""

    def run(kernel: JITFunction[Any], *args: Any, grid: Any, warmup: bool, **keywords: Any) -> None:
        if not warmup:
            kernel.fn(*args, **keywords)

    monkeypatch.setattr(JITFunction, "run", run)
    monkeypatch.setenv("STANDIN_LAUNCHES", "1")


def _forget() -> None:
    for name in [n for n in sys.modules if n.partition(".")[0] in _OF_ENGINES]:
        del sys.modules[name]


@pytest.fixture(autouse=True)
def _import_path(monkeypatch: pytest.MonkeyPatch) -> None:
    """Opening an engine takes folders off the path; other tests need them."""
    monkeypatch.setattr(sys, "path", list(sys.path))
