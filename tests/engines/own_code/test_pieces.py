"""Pieces of an engine's source run by themselves."""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from autotune.engines.own_code.pieces import Source


def test_what_values_rest_on_is_run_and_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "layer.py").write_text(
        "from engine.gpu import nothing_here\n"
        "class Layer(nothing_here):\n"
        "    def __init__(self, size: int, ranks):\n"
        "        self.gpu = nothing_here()\n"
        "        if size > 8:\n"
        "            size = double(size)\n"
        "            self.gpu.warm()\n"
        "        assert size % ranks == 0\n"
        "        self.part = size // ranks\n"
        "def double(x):\n"
        "    return 2 * x\n"
    )
    source = Source(tmp_path, {})
    init = source.definition("layer.py", "Layer.__init__")
    for size, part in ((8, 4), (10, 10)):
        layer = type("Stub", (), {})()
        source.part_of("layer.py", init, {"self.part"}, {"self": layer, "size": size, "ranks": 2})
        assert layer.part == part
    assert "layer.py:10 double" in source.used


def test_a_function_imports_no_heavy_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "rules.py").write_text(
        "def words(x):\n"
        "    import torch\n"
        "    from torch.cuda import get_device_name\n"
        "    import string\n"
        "    return torch.word + string.digits[x]\n"
    )
    monkeypatch.setitem(sys.modules, "torch", None)  # an import of it would raise
    source = Source(tmp_path, {"torch": SimpleNamespace(word="n")})
    assert source.get("rules.py", "words")(3) == "n3"
