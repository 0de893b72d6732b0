"""What SGLang builds at its first call is built without importing it, and never launched."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest

import autotune

PROBE = Path(__file__).parent / "builds_probe.py"
WHEELS = os.environ.get("AUTOTUNE_ENGINE_WHEELS")
BLOCK_FP8 = {"dtype": "fp8_w8a8", "block_shape": [128, 128]}
ACTIVATION = ["activation", "torch.bfloat16", "True"]
QUANTISED = "per_token_group_quant torch.bfloat16 torch.{} 128 False True True False True {}"

_NEVER_IMPORTED = "raise AssertionError('imported')\n"
_ACTIVATION = """
from sglang.kernels.jit.utils import load_jit
from sglang.srt.utils.custom_op import register_custom_op

@register_custom_op(mutates_args=["out"])
def _run(input, out):
    load_jit("activation", input.dtype, {}).launch(input, out)

def silu_and_mul(input, out):
    _run(input, out)
"""


def _fake(root: Path, given: str = "True") -> Path:
    files = {
        "__init__.py": _NEVER_IMPORTED,
        "srt/utils/__init__.py": _NEVER_IMPORTED,
        "srt/utils/common.py": _NEVER_IMPORTED,
        "srt/utils/custom_op.py": _NEVER_IMPORTED,
        "kernels/__init__.py": "",
        "kernels/ops/__init__.py": "",
        "kernels/ops/activation/__init__.py": "",
        "kernels/ops/activation/activation.py": _ACTIVATION.format(given),
    }
    for name, text in files.items():
        path = root / "sglang" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


def _probe(root: Path, **problem: Any) -> Any:
    paths = (str(Path(autotune.__file__).parents[1]), str(root))
    done = subprocess.run(
        [sys.executable, str(PROBE), json.dumps(problem)],
        cwd=root,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(paths)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_a_call_builds_and_launches_nothing(tmp_path: Path) -> None:
    found = _probe(_fake(tmp_path))
    assert found == {"said": ["silu_and_mul is built"], "built": [ACTIVATION]}
    assert _probe(tmp_path, gated=False) == {"said": [], "built": []}


def test_what_fails_is_said(tmp_path: Path) -> None:
    found = _probe(_fake(tmp_path, "unknown_name"))
    assert found["built"] == []
    assert found["said"] == ["silu_and_mul: NameError: name 'unknown_name' is not defined"]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if WHEELS is None:
        pytest.skip("AUTOTUNE_ENGINE_WHEELS names no folder with wheels of the engines")
    found = next(Path(WHEELS).glob("sglang-0.5.23-*.whl"), None)
    if found is None:
        pytest.skip(f"no wheel of sglang 0.5.23 in {WHEELS}")
    root = tmp_path_factory.mktemp("wheel")
    with zipfile.ZipFile(found) as archive:
        wanted = ("sglang/kernels/", "sglang/srt/utils/", "sglang/srt/environ")
        names = [n for n in archive.namelist() if n.startswith(wanted) and n.endswith(".py")]
        archive.extractall(root, [*names, "sglang/__init__.py"])
    return root


@pytest.mark.parametrize(
    ("problem", "quantised"),
    [
        ({}, []),
        ({"dtype": "int4_w4a16", "block_shape": [0, 128]}, []),
        (BLOCK_FP8, [QUANTISED.format("float8_e4m3fn", kind) for kind in ("flat", "sorted")]),
        (BLOCK_FP8 | {"dtype": "int8_w8a8"}, [QUANTISED.format("int8", "flat")]),
        ({"dtype": "fp8_w8a8"}, ["per_tensor_quant_fp8 True torch.bfloat16"]),
        (
            {"dtype": "fp8_w8a8", "per_channel_quant": True},
            ["per_token_quant_fp8 fast_math torch.bfloat16"],
        ),
    ],
)
def test_the_real_wheel_builds_what_its_layer_calls(
    wheel: Path, problem: dict[str, Any], quantised: list[str]
) -> None:
    found = _probe(wheel, **problem)
    assert found["built"] == [ACTIVATION, *(each.split() for each in quantised)], found["said"]
