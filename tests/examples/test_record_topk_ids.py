"""The engines' plugin, on stand-ins with the names that it touches: no engine runs here."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable
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


def _steps(folder: Path) -> list[int]:
    """The tokens of steps.csv, whose seconds have to be seconds."""
    head, *lines = (folder / "steps.csv").read_text().splitlines()
    assert head == "tokens,seconds"
    assert all(0 <= float(line.split(",")[1]) < 60 for line in lines)
    return [int(line.split(",")[0]) for line in lines]


def _hooks_of_sglang(plugin: Any, monkeypatch: pytest.MonkeyPatch) -> dict[str, Callable[..., Any]]:
    hooks: dict[str, Callable[..., Any]] = {}
    _stand_in(
        monkeypatch,
        "sglang.srt.plugins.hook_registry",
        HookRegistry=SimpleNamespace(register=lambda target, hook, _: hooks.update({target: hook})),
        HookType=SimpleNamespace(AROUND="around"),
    )
    plugin.register_sglang()
    return {target.rpartition(".")[2]: hook for target, hook in hooks.items()}


def test_nobody_is_hooked_who_names_no_folder(plugin: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TOPK_IDS_DIR")
    assert _hooks_of_sglang(plugin, monkeypatch) == {}
    plugin.register_vllm()  # would fail: no vLLM is here


def test_choices_in_sglang(plugin: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hook = _hooks_of_sglang(plugin, monkeypatch)["capture_routed_experts_if_allowed"]
    seen = []
    target = SimpleNamespace(allow_routed_experts_capture=True)
    draft = SimpleNamespace(allow_routed_experts_capture=False)

    def call(config: Any, layer: int, ids: torch.Tensor) -> None:
        hook(lambda *args: seen.append(args), config, layer, ids)

    call(target, 3, _ids(5))  # warm-up: nothing says start
    (tmp_path / "start").touch()
    padding = torch.full((2, 2), -1)
    for step in range(4):
        for layer in (3, 4):
            call(target, layer, torch.cat([_ids(step + layer), padding]))
            call(draft, layer, _ids(7))
    assert len(seen) == 17
    layers = read_trace(tmp_path).layers
    assert sorted(layers) == [3, 4]
    assert layers[3].ids.tolist() == torch.cat([_ids(step + 3) for step in range(3)])[:10].tolist()


def test_steps_of_sglang(plugin: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hook = _hooks_of_sglang(plugin, monkeypatch)["forward"]
    decode = SimpleNamespace(bs=8, captured_req_width=3, ragged_verify_mode=False)
    prefill = SimpleNamespace(
        capture_num_tokens=[64, 128], _pad_to_bucket=lambda n, of: min(x for x in of if x >= n)
    )
    runner = SimpleNamespace(
        is_draft_worker=False, decode_cuda_graph_runner=decode, prefill_cuda_graph_runner=prefill
    )

    def forward(tokens: int, *, graph: bool, decodes: bool = False) -> None:
        batch = SimpleNamespace(
            input_ids=range(tokens), forward_mode=SimpleNamespace(is_cuda_graph=lambda: decodes)
        )
        output = SimpleNamespace(can_run_graph=graph)
        assert hook(lambda *_: output, runner, batch) is output

    forward(9, graph=False)
    (tmp_path / "start").touch()
    forward(700, graph=False)
    forward(65, graph=True)
    forward(15, graph=True, decodes=True)
    decode.ragged_verify_mode, decode._ragged_graph_size = True, 40
    forward(15, graph=True, decodes=True)
    forward(0, graph=False)
    runner.is_draft_worker = True
    forward(5, graph=False)
    assert _steps(tmp_path) == [700, 128, 24, 40]


class _Router:
    def set_capture_fn(self, function: Any) -> None:
        self.capture_fn = function


class _Runner:
    """What both of vLLM's runners have."""

    def load_model(self, *, load_dummy_weights: bool = False) -> str:
        layers = [SimpleNamespace(router=_Router(), layer_id=k) for k in (1, 2)]
        modules = [SimpleNamespace(), *layers, SimpleNamespace(router=object(), layer_id=9)]
        self.model = SimpleNamespace(modules=lambda: modules)
        return "loaded"

    def get_model(self) -> Any:
        return self.model


class _Older(_Runner):
    def _determine_batch_execution_and_padding(self, num_tokens: int, ranks: Any) -> Any:
        return "FULL", SimpleNamespace(num_tokens=num_tokens + 5), False, ranks, None

    def execute_model(self, scheduled: Any, _: Any = None) -> str:
        tokens = scheduled.total_num_scheduled_tokens
        self._determine_batch_execution_and_padding(tokens, scheduled.ranks)
        return "ran"


class _Newer(_Runner):
    execute_model_state: Any = None

    def execute_model(self, scheduled: Any, _: Any = None, dummy_run: bool = False) -> str:
        tokens = scheduled.total_num_scheduled_tokens
        ranks = scheduled.ranks
        self.execute_model_state = SimpleNamespace(
            input_batch=SimpleNamespace(num_tokens_after_padding=tokens + 5),
            dp_sync_state=ranks if ranks is None else SimpleNamespace(num_tokens_across_dp=ranks),
        )
        return "ran"


def _runner_of_vllm(plugin: Any, monkeypatch: pytest.MonkeyPatch, kind: type) -> Any:
    class Wrapper:
        def init_device(self) -> None:
            self.worker = SimpleNamespace(model_runner=kind())

    _stand_in(monkeypatch, "vllm.v1.worker.worker_base", WorkerWrapperBase=Wrapper)
    plugin.register_vllm()
    wrapper = Wrapper()
    wrapper.init_device()
    runner = wrapper.worker.model_runner
    assert runner.load_model(load_dummy_weights=True) == "loaded"
    return runner


def test_choices_in_vllm(
    plugin: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level("INFO"):
        runner = _runner_of_vllm(plugin, monkeypatch, _Newer)
    assert "routing of 2 layers" in caplog.text
    (tmp_path / "start").touch()
    for module in runner.model.modules():
        if isinstance(getattr(module, "router", None), _Router):
            module.router.capture_fn(_ids(module.layer_id, rows=10))
    assert sorted(read_trace(tmp_path).layers) == [1, 2]


def test_no_choices_are_recorded_where_none_are_wanted(
    plugin: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TOPK_IDS_TOKENS", "0")
    runner = _runner_of_vllm(plugin, monkeypatch, _Newer)
    routers = [getattr(module, "router", None) for module in runner.model.modules()]
    assert not any(hasattr(router, "capture_fn") for router in routers)
    (tmp_path / "start").touch()
    plugin.take(1, _ids(0))
    assert [path.name for path in tmp_path.iterdir()] == ["start"]


@pytest.mark.parametrize("kind", [_Older, _Newer])
def test_steps_of_vllm(
    plugin: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: type
) -> None:
    runner = _runner_of_vllm(plugin, monkeypatch, kind)

    def execute(tokens: int, ranks: Any = None, **kwargs: Any) -> None:
        scheduled = SimpleNamespace(total_num_scheduled_tokens=tokens, ranks=ranks)
        assert runner.execute_model(scheduled, None, **kwargs) == "ran"

    execute(9)
    (tmp_path / "start").touch()
    execute(59)
    execute(11, torch.tensor([16, 16]))
    execute(0)
    if kind is _Newer:
        execute(7, dummy_run=True)
    execute(3)
    (tmp_path / "start").unlink()
    execute(4)
    assert _steps(tmp_path) == [64, 32, 8]


def test_steps_on_a_gpu_are_written_when_it_has_done_them(
    plugin: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[bool] = []

    class Event:
        def __init__(self, enable_timing: bool) -> None:
            assert enable_timing

        def record(self) -> None:
            self.number = len(done)
            done.append(False)

        def query(self) -> bool:
            return done[self.number]

        def elapsed_time(self, end: Any) -> float:
            assert self.query()
            assert end.query()
            return 12.5

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "Event", Event)
    plugin.step(8, plugin.now())
    assert _steps(tmp_path) == []
    done[:2] = [True, True]
    plugin.step(9, plugin.now())
    assert (tmp_path / "steps.csv").read_text() == "tokens,seconds\n8,0.012500\n"
