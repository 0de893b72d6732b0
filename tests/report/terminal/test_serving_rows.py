"""Whether engines open our files where they serve, as people and programs read it."""

from __future__ import annotations

from dataclasses import replace

from autotune.engines import ENGINES
from autotune.models.load import load_shape
from autotune.models.problems import Parallelism
from autotune.report.terminal.serving_rows import serving_rows
from autotune.spec.device import Device, DeviceKind, Target

H200 = Device(DeviceKind.CUDA, "NVIDIA H200", Target("cuda", 90), 232448, "3.6.0")
B200 = replace(H200, name="NVIDIA B200", target=Target("cuda", 100))


def test_each_engine_and_kernel_has_one_row() -> None:
    shape = load_shape("Qwen/Qwen3-30B-A3B")
    asked = [
        (
            engine,
            engine.serves(shape, None, Parallelism(), tokens=tokens, routing="uniform"),
            device,
        )
        for device in (H200, B200)
        for tokens in (1, 16)
        for engine in ENGINES.values()
    ]
    rows = serving_rows(shape, asked)
    assert [(row.engine, row.gpu, row.by_itself) for row in rows] == [
        ("sglang 0.5.23", "SM90", True),
        ("vllm 0.33.0", "SM90", True),
        ("sglang 0.5.23", "SM100", False),
        ("vllm 0.33.0", "SM100", False),
    ]
    assert [row.flag for row in rows[2:]] == [
        "--moe-runner-backend triton",
        "--moe-backend triton",
    ]
    assert all(row.flag in row.words for row in rows[2:])
    assert rows[3].source == "model_executor/layers/fused_moe/oracle/unquantized.py:69"


def test_what_is_set_here_is_said_as_it_is() -> None:
    """In SGLang's image for ROCm AITER is on."""
    shape, sglang = load_shape("Qwen/Qwen3-30B-A3B"), ENGINES["sglang"]
    problem = sglang.serves(shape, None, Parallelism(), tokens=1, routing="uniform")
    mi300x = replace(H200, name="AMD Instinct MI300X", target=Target("hip", "gfx942", 64))
    asked = [(sglang, problem, mi300x)]
    [plain] = serving_rows(shape, asked, environment={})
    [under] = serving_rows(shape, asked, environment={"SGLANG_USE_AITER": "true"})
    assert (plain.by_itself, under.by_itself) == (True, False)
    assert "SGLANG_USE_AITER=true is set here" in under.words
