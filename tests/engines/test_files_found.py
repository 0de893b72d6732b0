"""Files that a run writes, found and loaded by the engines' own lookup, run out of their wheels."""

from __future__ import annotations

import io
import json
import os
import re
from collections.abc import Callable
from contextlib import redirect_stdout
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import Mock

import pytest
from theirs import CODE, read_case  # type: ignore[import-not-found]

from autotune.cli import run_command_line
from autotune.engines.own_code.question import Question

FP8 = {"quant_method": "fp8", "weight_block_size": [128, 128]}
SIZES = {"hidden_size": 2048, "moe_intermediate_size": 1536, "num_experts_per_tok": 4}
EXPERTS = {"num_experts": 16, "n_routed_experts": 16, "num_local_experts": 16}
LAYERS = {"num_hidden_layers": 4}
FIELDS = {**SIZES, **EXPERTS, **LAYERS}
PARTS = re.compile(
    r"E=(\d+),N=(\d+),device_name=[^,]*?"
    r"(?:,dtype=(\w+))?(?:,block_shape=\[(\d+), ?(\d+)\])?\.json"
)
LOOKUP = {
    "vllm": "model_executor/layers/fused_moe/fused_moe.py",
    "sglang": "srt/layers/moe/moe_runner/triton_utils/fused_moe_triton_config.py",
}


@dataclass(frozen=True)
class Kind:
    """One kind of what goes wrong, and the name's parts that say it went right."""

    config: dict[str, Any]
    vllm: str | None
    """None: the engine refuses it."""
    sglang: str | None
    tp_size: int = 1
    ep_size: int = 1
    sidecar: dict[str, Any] = field(default_factory=dict)
    device: str = "NVIDIA H200"


def _named(architecture: str, **more: Any) -> dict[str, Any]:
    return {"architectures": [architecture], **FIELDS, **more}


KINDS = {
    "shared expert": Kind(_named("Glm4vMoeForConditionalGeneration", n_shared_experts=1),
        "E=16,N=1536", "E=17,N=1536"),
    "cut blocks": Kind(_named("Qwen3MoeForCausalLM", quantization_config=FP8),
        "block_shape=[64,64]", None, tp_size=8),
    "ModelOpt beside": Kind(_named("Qwen3MoeForCausalLM"), "fp8_w8a8.json", "fp8_w8a8.json",
        sidecar={"producer": {"name": "modelopt"}, "quantization": {"quant_algo": "FP8"}}),
    "no gate": Kind(_named("NemotronHForCausalLM", hybrid_override_pattern="EEEE"),
        "E=16,N=1536", "E=16,N=1536"),
    "nested": Kind({"architectures": ["Qwen3VLMoeForConditionalGeneration"], "text_config": FIELDS},
        "E=16,N=768", "E=16,N=768", tp_size=2),
    "TP with EP": Kind(_named("Qwen3MoeForCausalLM"), None, "E=8,N=384", tp_size=8, ep_size=2),
    "another GPU": Kind(_named("MixtralForCausalLM", intermediate_size=1536),
        "A100", "A100", device="NVIDIA A100-SXM4-80GB"),
}  # fmt: skip


@pytest.mark.parametrize("name", KINDS)
def test_the_engines_find_what_a_run_wrote(
    tmp_path: Path, measured: Path, engine_package: Callable[[str], Path], name: str
) -> None:
    kind = KINDS[name]
    packages = {engine: engine_package(engine) / engine for engine in CODE}
    folders = _written(name, measured, tmp_path / "out")
    for engine, package in packages.items():
        expected = getattr(kind, engine)
        files = sorted((tmp_path / "out").glob(f"*/{engine}/**/*.json"))
        found_in = [expected in file.name.replace("_down", "") for file in files]
        assert found_in == ([True] * (1 + (engine == "sglang")) if expected else []), files
        if expected:
            found = _looked_up(kind, engine, package, folders[engine], files[0].parent.name)
            written = json.loads(files[0].read_text())
            written.pop("triton_version", None)
            assert found == {int(tokens): entry for tokens, entry in written.items()}


def test_sglang_pairs_no_down_file_of_an_older_triton_with_what_was_tuned(
    tmp_path: Path, measured: Path, engine_package: Callable[[str], Path]
) -> None:
    kind, package = KINDS["ModelOpt beside"], engine_package("sglang") / "sglang"
    folder = _written("ModelOpt beside", measured, tmp_path / "out")["sglang"]
    up = next(path for path in Path(folder).rglob("*.json") if "_down" not in path.name)
    down = up.with_name(f"{up.stem}_down.json")
    older = Path(folder) / "configs" / "triton_3_4_0" / down.name
    older.parent.mkdir()
    older.write_text('{"8": {"BLOCK_SIZE_M": 16}}')
    assert _looked_up(kind, "sglang", package, folder, up.parent.name, down=True) == {
        int(tokens): entry for tokens, entry in json.loads(up.read_text()).items()
    }
    down.unlink()
    stale = _looked_up(kind, "sglang", package, folder, up.parent.name, down=True)
    assert stale == {8: {"BLOCK_SIZE_M": 16}}


def _run(words: list[str], folder: Path) -> dict[str, str]:
    """Run in this process; return the folders that the run tells to give the engines."""
    text = io.StringIO()
    words += ["--batch-size", "8", "--trials", "2", "--sampler", "random", "--jobs", "1"]
    words += ["--storage", str(folder / "studies.db"), "--cache-dir", str(folder / "cache")]
    with redirect_stdout(text):
        assert run_command_line(["run", *words]) == 0
    said = re.findall(r"export (\w+)=(\S+)", text.getvalue())
    variables = {"SGLANG_MOE_CONFIG_DIR": "sglang", "VLLM_TUNED_CONFIG_FOLDER": "vllm"}
    return {variables[variable]: value for variable, value in said}


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a model of each kind, measured in one run for each GPU: the run of one model
    alone finds all done, and writes its files."""
    folder = tmp_path_factory.mktemp("kinds")
    for name, kind in KINDS.items():
        model = folder / name
        model.mkdir()
        (model / "config.json").write_text(json.dumps(kind.config))
        if kind.sidecar:
            (model / "hf_quant_config.json").write_text(json.dumps(kind.sidecar))
    for device in {kind.device for kind in KINDS.values()}:
        kinds = [name for name, kind in KINDS.items() if kind.device == device]
        models = [
            f"{folder / name}:tp-size={KINDS[name].tp_size},ep-size={KINDS[name].ep_size}"
            for name in kinds
        ]
        flags = ["--device", f"estimate:{device.replace(' ', '_')}"]
        _run(["--model", *models, *flags, "--output-dir", str(folder / "all")], folder)
    return folder


def _written(name: str, measured: Path, output: Path) -> dict[str, str]:
    """Write the files of a kind; return the folders that the run tells to give the engines."""
    kind = KINDS[name]
    flags = {
        "--model": measured / name,
        "--device": f"estimate:{kind.device.replace(' ', '_')}",
        "--tp-size": kind.tp_size,
        "--ep-size": kind.ep_size,
        "--output-dir": output,
    }
    return _run([str(word) for pair in flags.items() for word in pair], measured)


def _looked_up(
    kind: Kind, engine: str, package: Path, folder: str, version: str, *, down: bool = False
) -> dict[int, Any]:
    """Ask the engine's code which file it opens for this model, then to open it."""
    code = CODE[engine](package)
    stored = read_case(kind.config, kind.sidecar or None)
    sizes = {"tp_size": kind.tp_size, "ep_size": kind.ep_size}
    asked = Question(config=kind.config, stored=stored, device_name=kind.device, **sizes)
    experts, width, dtype, *block = PARTS.fullmatch(code.file_name(asked)).groups()  # type: ignore[union-attr]
    served = SimpleNamespace(enable_deterministic_inference=False)
    code.source.stand_ins |= {
        "__file__": "/nowhere",
        "logger": Mock(),
        "json": json,
        "envs": SimpleNamespace(VLLM_BATCH_INVARIANT=False, VLLM_TUNED_CONFIG_FOLDER=folder),
        "get_exec": lambda: SimpleNamespace(deterministic=served),
        "os": SimpleNamespace(
            path=os.path, listdir=os.listdir, environ={"SGLANG_MOE_CONFIG_DIR": folder}
        ),
        "triton": SimpleNamespace(__version__=version.removeprefix("triton_").replace("_", ".")),
    }
    lookup = code.source.get(LOOKUP[engine], "get_moe_configs")
    more = {"down_moe": True} if down else {}
    scales = (int(b or 0) for b in block)
    found: dict[int, Any] = lookup(int(experts), int(width), dtype, *scales, **more)
    return found
