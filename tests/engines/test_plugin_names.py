"""What the plugin of examples/record_topk_ids takes hold of, looked up in the engines' wheels."""

from __future__ import annotations

import ast
import sys
from collections.abc import Callable, Iterator
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

Package = Callable[[str], Path]
WORKER = "vllm/v1/worker"
RUNNERS = {"older": f"{WORKER}/gpu_model_runner.py", "newer": f"{WORKER}/gpu/model_runner.py"}


def _classes(path: Path) -> dict[str, ast.ClassDef]:
    tree = ast.parse(path.read_text())
    return {node.name: node for node in tree.body if isinstance(node, ast.ClassDef)}


def _functions(node: ast.AST) -> dict[str, ast.FunctionDef]:
    found = ast.walk(node)
    return {inner.name: inner for inner in found if isinstance(inner, ast.FunctionDef)}


def _arguments(function: ast.FunctionDef) -> list[str]:
    return [argument.arg for argument in function.args.args]


def _fields(node: ast.ClassDef) -> set[str]:
    named = [inner.target for inner in node.body if isinstance(inner, ast.AnnAssign)]
    return {target.id for target in named if isinstance(target, ast.Name)}


@pytest.mark.parametrize("which", RUNNERS)
def test_either_runner_of_vllm(engine_package: Package, which: str) -> None:
    runner = _classes(engine_package("vllm") / RUNNERS[which])["GPUModelRunner"]
    methods = _functions(runner)
    assert {"load_model", "get_model", "execute_model"} <= set(methods)
    assert _arguments(methods["execute_model"])[:2] == ["self", "scheduler_output"]
    body = ast.unparse(methods["execute_model"])
    assert "scheduler_output.total_num_scheduled_tokens" in body
    assert ("_determine_batch_execution_and_padding" in methods) is (which == "older")


def test_padded_tokens_of_the_older_runner(engine_package: Package) -> None:
    runner = _classes(engine_package("vllm") / RUNNERS["older"])["GPUModelRunner"]
    methods = _functions(runner)
    body = ast.unparse(methods["_determine_batch_execution_and_padding"])
    assert "return (cudagraph_mode, batch_descriptor, should_ubatch, num_tokens_across_dp" in body
    assert "num_tokens_padded = batch_desc.num_tokens" in ast.unparse(methods["execute_model"])


def test_padded_tokens_of_the_newer_runner(engine_package: Package) -> None:
    folder = engine_package("vllm") / WORKER / "gpu"
    classes = _classes(folder / "model_runner.py")
    assert {"input_batch", "dp_sync_state"} <= _fields(classes["ExecuteModelState"])
    assert "num_tokens_after_padding" in _fields(_classes(folder / "input_batch.py")["InputBatch"])
    assert "num_tokens_across_dp" in _fields(_classes(folder / "dp_utils.py")["DPSyncState"])
    methods = _functions(classes["GPUModelRunner"])
    assert "dummy_run=True" in ast.unparse(methods["_dummy_run"])
    assert "self.execute_model_state = ExecuteModelState(" in ast.unparse(methods["execute_model"])


def test_where_vllm_makes_its_runner(engine_package: Package) -> None:
    folder = engine_package("vllm") / WORKER
    wrapper = _functions(_classes(folder / "worker_base.py")["WorkerWrapperBase"])
    assert _arguments(wrapper["init_device"]) == ["self"]
    assert "self.worker.init_device()" in ast.unparse(wrapper["init_device"])
    worker = _functions(_classes(folder / "gpu_worker.py")["Worker"])
    made = "_init_workspace_and_model_runner"
    assert f"self.{made}()" in ast.unparse(worker["init_device"])
    assert "self.model_runner: " in ast.unparse(worker[made])
    assert "self.model_runner.load_model(" in ast.unparse(worker["load_model"])
    assert "self.model_runner.execute_model(" in ast.unparse(worker["execute_model"])


def test_choices_of_vllm(engine_package: Package) -> None:
    """Every router that is called apart from the kernel hands on what it chose, before EPLB."""
    moe = engine_package("vllm") / "vllm/model_executor/layers/fused_moe"
    base = _functions(_classes(moe / "router/base_router.py")["BaseRouter"])
    assert _arguments(base["set_capture_fn"]) == ["self", "capture_fn"]
    body = ast.unparse(base["_select_experts"])
    assert body.index("self.capture_fn(topk_ids)") < body.index("self._apply_eplb_mapping(")
    runner = _functions(_classes(moe / "runner/moe_runner.py")["MoERunner"])
    assert "self.router = router" in ast.unparse(runner["__init__"])
    assert "layer_id" in runner
    routers = [_classes(path) for path in (moe / "router").glob("*_router.py")]
    silent = {
        name
        for classes in routers
        for name, node in classes.items()
        if "select_experts" in _functions(node) or "_select_experts" in _functions(node)
    }
    assert silent == {"FusedMoERouter", "BaseRouter"}


def test_groups_of_entry_points(engine_package: Package) -> None:
    project = Path(__file__).parents[2] / "examples/record_topk_ids/pyproject.toml"
    groups = project.read_text()
    for package, path in (("vllm", "vllm/plugins"), ("sglang", "sglang/srt/plugins")):
        source = (engine_package(package) / path / "__init__.py").read_text()
        group = next(g for g in ("vllm.general_plugins", "sglang.srt.plugins") if package in g)
        assert f'"{group}"' in source
        assert f'[project.entry-points."{group}"]' in groups


def test_choices_of_sglang(engine_package: Package) -> None:
    source = (engine_package("sglang") / "sglang/srt/layers/moe/topk.py").read_text()
    tree = ast.parse(source)
    functions = _functions(tree)
    capture = functions["capture_routed_experts_if_allowed"]
    assert _arguments(capture) == ["topk_config", "layer_id", "topk_ids"]
    assert "allow_routed_experts_capture: bool" in source
    for caller in ("_post_process_topk_ids", "build_precomputed_topk_output"):
        assert "capture_routed_experts_if_allowed(topk_config, layer_id, " in ast.unparse(
            functions[caller]
        )


def test_steps_of_sglang(engine_package: Package) -> None:
    folder = engine_package("sglang") / "sglang/srt/model_executor"
    classes = _classes(folder / "model_runner.py")
    runner = _functions(classes["ModelRunner"])
    assert _arguments(runner["forward"])[:2] == ["self", "forward_batch"]
    body = ast.unparse(runner["_forward_raw"])
    assert "self.decode_cuda_graph_runner.execute(" in body
    assert "self.prefill_cuda_graph_runner.execute(" in body
    assert "can_run_graph" in _fields(classes["ModelRunnerOutput"])
    decode = (folder / "runner/decode_cuda_graph_runner.py").read_text()
    for line in (
        "padded_num_tokens = bs * self.captured_req_width",
        "self.bs = bs",
        "self._ragged_graph_size = graph_size_key",
        "self.ragged_verify_mode = ",
    ):
        assert line in decode
    prefill = (folder / "runner/prefill_cuda_graph_runner.py").read_text()
    assert "self._pad_to_bucket(num_tokens, self.capture_num_tokens)" in prefill


@pytest.fixture
def registry(engine_package: Package, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """SGLang's own registry of hooks: its file imports nothing of SGLang."""
    path = engine_package("sglang") / "sglang/srt/plugins/hook_registry.py"
    name = "sglang.srt.plugins.hook_registry"
    spec = spec_from_file_location(name, path)
    assert spec
    assert spec.loader
    module = module_from_spec(spec)
    for parent in ("sglang", "sglang.srt", "sglang.srt.plugins"):
        monkeypatch.setitem(sys.modules, parent, ModuleType(parent))
    monkeypatch.setitem(sys.modules, name, module)
    spec.loader.exec_module(module)
    yield module.HookRegistry
    module.HookRegistry.reset()


def test_hooks_through_sglang_s_own_registry(registry: Any, tmp_path: Path) -> None:
    script = Path(__file__).parents[2] / "examples/record_topk_ids/record_topk_ids.py"
    spec = spec_from_file_location("record_topk_ids", script)
    assert spec
    assert spec.loader
    plugin = module_from_spec(spec)
    spec.loader.exec_module(plugin)

    class ModelRunner:
        is_draft_worker = False

        def forward(self, batch: Any) -> Any:
            return SimpleNamespace(can_run_graph=False, batch=batch)

    stand_in = ModuleType("sglang.srt.model_executor.model_runner")
    stand_in.ModelRunner = ModelRunner  # type: ignore[attr-defined]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TOPK_IDS_DIR", str(tmp_path))
        patch.setitem(sys.modules, "sglang.srt.model_executor", ModuleType("model_executor"))
        patch.setitem(sys.modules, stand_in.__name__, stand_in)
        plugin.register_sglang()
        registry.apply_hooks()
        (tmp_path / "start").touch()
        batch = SimpleNamespace(input_ids=[1, 2, 3])
        assert ModelRunner().forward(batch).batch is batch
    assert (tmp_path / "steps.csv").read_text().startswith("tokens,seconds\n3,")
