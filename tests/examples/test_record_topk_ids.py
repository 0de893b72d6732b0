"""The engines' plugin, on stand-ins with the names that it touches: no engine runs here."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch

from autotune.routing.trace_files import read_trace

_FILE = Path(__file__).parents[2] / "examples/record_topk_ids/record_topk_ids.py"


@pytest.fixture
def plugin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    spec = importlib.util.spec_from_file_location("record_topk_ids", _FILE)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setenv("TOPK_IDS_DIR", str(tmp_path))
    monkeypatch.setenv("TOPK_IDS_TOKENS", "10")
    return module


def _stand_in(monkeypatch: pytest.MonkeyPatch, name: str, **content: Any) -> ModuleType:
    parts = name.split(".")
    for end in range(1, len(parts) + 1):
        module = ModuleType(".".join(parts[:end]))
        monkeypatch.setitem(sys.modules, module.__name__, module)
        if end > 1:
            setattr(sys.modules[".".join(parts[: end - 1])], parts[end - 1], module)
    for key, value in content.items():
        setattr(module, key, value)
    return module


def _ids(first: int, rows: int = 4) -> torch.Tensor:
    return (torch.arange(2 * rows).view(rows, 2) + first) % 8


def test_sglang(plugin: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    topk = _stand_in(
        monkeypatch,
        "sglang.srt.layers.moe.topk",
        capture_routed_experts_if_allowed=lambda *args: seen.append(args),
    )
    plugin.register_sglang()
    topk.capture_routed_experts_if_allowed(None, 3, _ids(5))  # warm-up: nothing says start
    (tmp_path / "start").touch()
    for step in range(4):
        for layer in (3, 4):
            topk.capture_routed_experts_if_allowed(None, layer, _ids(step + layer))
    assert len(seen) == 9
    layers = read_trace(tmp_path).layers
    assert sorted(layers) == [3, 4]
    assert layers[3].ids.tolist() == torch.cat([_ids(step + 3) for step in range(3)])[:10].tolist()


def test_vllm(plugin: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Router:
        def set_capture_fn(self, function: Any) -> None:
            self.capture_fn = function

    class Runner:
        def load_model(self) -> str:
            layers = [SimpleNamespace(router=Router(), layer_id=k) for k in (1, 2)]
            modules = [SimpleNamespace(), *layers, SimpleNamespace(router=object(), layer_id=9)]
            self.model = SimpleNamespace(modules=lambda: modules)
            return "loaded"

    _stand_in(monkeypatch, "vllm.v1.worker.gpu_model_runner", GPUModelRunner=Runner)
    plugin.register_vllm()
    runner = Runner()
    assert runner.load_model() == "loaded"
    (tmp_path / "start").touch()
    for module in runner.model.modules():
        if isinstance(getattr(module, "router", None), Router):
            module.router.capture_fn(_ids(module.layer_id, rows=10))
    assert sorted(read_trace(tmp_path).layers) == [1, 2]
