"""Stand-ins of the engines: packages with the real ones' module paths, names and signatures of
two minor versions (read from the wheels of these versions), whose kernels are ``standin_math``.

Folders without ``__init__.py`` are namespace packages.
"""

from __future__ import annotations

from pathlib import Path

VERSIONS = {"sglang": ("0.5.22", "0.5.23"), "vllm": ("0.32.0", "0.33.0")}

_SGLANG_MOE = """
import sglang
from sglang.srt.layers.moe.moe_runner.triton_utils.fused_moe_triton_config import chosen
from standin_math import check_keys, moe

KEYS = {"BLOCK_SIZE_M", "BLOCK_SIZE_N", "BLOCK_SIZE_K", "GROUP_SIZE_M", "num_warps", "num_stages",
        "USE_TMA", "waves_per_eu", "matrix_instr_nonkdim", "kpack"}


def fused_experts(
    hidden_states, w1, w2, topk_output, moe_runner_config, b1=None, b2=None,
    use_fp8_w8a8=False, use_int8_w8a8=False, use_int8_w8a16=False, use_int4_w4a16=False,
    per_channel_quant=False, w1_scale=None, w2_scale=None, w1_zp=None, w2_zp=None,
    a1_scale=None, a2_scale=None, block_shape=None, a1_q=None, fuse_swiglu_interleaved=False,
):
    assert sglang.STATE == ["published", "distributed", "parallel"], sglang.STATE
    from sglang.kernels.ops.moe import fused_moe_triton_kernels as kernels

    topk_weights, topk_ids, _ = topk_output
    dtype = next(
        (name for name, used in (("fp8_w8a8", use_fp8_w8a8), ("int8_w8a8", use_int8_w8a8),
                                 ("int8_w8a16", use_int8_w8a16), ("int4_w4a16", use_int4_w4a16))
         if used),
        None,
    )
    config, down = chosen(w2.shape, dtype, len(topk_ids), block_shape or (0, 0), per_channel_quant)
    for keys in (config, down):
        check_keys(keys, KEYS, set())
    sglang.LAUNCHED.append((config, down))
    kernels.two_gemms(topk_ids, config, down)
    runner = moe_runner_config
    assert not runner.inplace
    assert (runner.activation, runner.is_gated) in (("silu", True), ("relu2", False))
    filters = runner.num_experts is None or runner.num_experts != runner.num_local_experts
    assert filters or not (topk_ids < 0).any()
    if use_int8_w8a8 and block_shape is None:
        assert per_channel_quant, "int8 quantization only supports channel"
    return moe(
        hidden_states, w1, w2, topk_weights, topk_ids, activation=runner.activation,
        dtype=dtype,
        per_channel=per_channel_quant, scales=(w1_scale, w2_scale), zeros=(w1_zp, w2_zp),
        row_scales=(a1_scale, a2_scale), block=block_shape,
    )
"""

_SGLANG_LOOKUP = """
import functools
import json
import os
from pathlib import Path

import triton

DEFAULT = {"BLOCK_SIZE_M": 64, "BLOCK_SIZE_N": 64, "BLOCK_SIZE_K": 32, "GROUP_SIZE_M": 8}
DETERMINISTIC = []


def get_config_file_name(
    E, N, dtype, block_shape=None, per_channel_quant=False, down_moe=False
):
    block = block_shape if block_shape and all(block_shape) else ""
    return f"E={E},N={N},{dtype},{block},{per_channel_quant},{down_moe}.json"


@functools.lru_cache
def get_moe_configs(
    E, N, dtype, block_n=0, block_k=0, per_channel_quant=False, down_moe=False
):
    if DETERMINISTIC:
        return None
    name = get_config_file_name(
        E, N, dtype, [block_n, block_k], per_channel_quant, down_moe=down_moe
    )
    root = os.environ.get("SGLANG_MOE_CONFIG_DIR", "/nowhere")
    path = Path(root, "configs", "triton_" + triton.__version__.replace(".", "_"), name)
    if path.exists():
        return {int(tokens): keys for tokens, keys in json.loads(path.read_text()).items()}
    return get_moe_configs(E, N, dtype, block_n, block_k, per_channel_quant) if down_moe else None


def chosen(w2_shape, dtype, tokens, block, per_channel_quant):
    from sglang.srt.layers.moe.moe_runner.triton_utils import get_config

    if get_config():
        return get_config(), None
    found = []
    for down_moe in (False, True):
        files = get_moe_configs(
            w2_shape[0], w2_shape[2], dtype, *block,
            per_channel_quant=per_channel_quant, down_moe=down_moe,
        )
        found.append(files and files[min(files, key=lambda at: abs(at - tokens))])
    return found[0] or DEFAULT, found[1]
"""

_SGLANG_KERNELS = """
import os

import torch
from triton.runtime.jit import JITFunction

DESCRIPTORS = []


class TensorDescriptor:
    def __init__(self, base):
        self.base = base


def clear_b_tma_desc_cache():
    DESCRIPTORS.clear()


def gemm(a_ptr, a_desc, b_desc, c_ptr, times, BLOCK_SIZE_M, BLOCK_SIZE_N, BLOCK_SIZE_K,
         GROUP_SIZE_M, num_warps=4, num_stages=3):
    c_ptr.copy_((a_desc.base if a_desc else a_ptr) * times)


gemm = JITFunction(gemm)


def two_gemms(ids, config, down):
    if "STANDIN_LAUNCHES" not in os.environ:
        return
    config, down = dict(config), down and dict(down)
    up_tma, down_tma = config.pop("USE_TMA", False), down and down.pop("USE_TMA", False)
    weights = TensorDescriptor(ids)
    DESCRIPTORS.append(weights)
    a, b, c = ids.clone(), torch.empty_like(ids), torch.empty_like(ids)
    gemm[(1,)](a, None, weights if up_tma else None, b, 2, **config)
    b_desc = weights if down_tma else None
    gemm[(1,)](b, TensorDescriptor(b) if down_tma else None, b_desc, c, 3, **(down or config))
"""

_OVERRIDE = """
from contextlib import contextmanager

_config = None


@contextmanager
def override_config(config):
    global _config
    old, _config = _config, config
    yield
    _config = old


def get_config():
    return _config
"""

_SGLANG_PARALLEL = """
import sglang


def init_distributed_environment(
    world_size=-1, rank=-1, distributed_init_method="env://", local_rank=-1, backend="nccl",
    timeout=None, moe_a2a_backend=None, recovered_rank=False, max_world_size=None,
):
    assert (world_size, rank, local_rank, backend) == (1, 0, 0, "gloo")
    assert distributed_init_method.startswith("file:///")
    sglang.STATE.append("distributed")


def initialize_model_parallel(
    backend=None, duplicate_tp_group=False, enable_symm_mem=False, recovered_rank=False,
    rank_offset=0, max_world_size=None,
):
    sglang.STATE.append("parallel")


def destroy_model_parallel():
    sglang.STATE.remove("parallel")


def destroy_distributed_environment():
    sglang.STATE.remove("distributed")
"""

_SGLANG = {
    "sglang/__init__.py": "STATE = []\nLAUNCHED = []\nimport kernels\nHUB = kernels.HUB\n",
    "sglang/srt/layers/moe/moe_runner/triton_utils/__init__.py": _OVERRIDE,
    "sglang/srt/layers/moe/moe_runner/triton_utils/fused_moe.py": _SGLANG_MOE,
    "sglang/srt/layers/moe/moe_runner/triton_utils/fused_moe_triton_config.py": _SGLANG_LOOKUP,
    "sglang/kernels/ops/moe/fused_moe_triton_kernels.py": _SGLANG_KERNELS,
    "sglang/srt/layers/moe/topk.py": (
        "from typing import NamedTuple\n\n\nclass StandardTopKOutput(NamedTuple):\n"
        "    topk_weights: object\n    topk_ids: object\n    router_logits: object\n"
    ),
    "sglang/srt/layers/moe/moe_runner/base.py": """
from dataclasses import dataclass
from typing import Any


@dataclass
class MoeRunnerConfig:
    num_experts: Any = None
    num_local_experts: Any = None
    hidden_size: Any = None
    intermediate_size_per_partition: Any = None
    layer_id: Any = None
    top_k: Any = None
    num_fused_shared_experts: Any = None
    params_dtype: Any = None
    routing_method_type: Any = None
    RUNNER_BACKEND
    activation: str = "silu"
    is_gated: bool = True
    apply_router_weight_on_input: bool = False
    inplace: bool = True
    no_combine: bool = False
""",
    "sglang/srt/server_args.py": """
import sglang


class ServerArgs:
    def __init__(self, model_path):
        assert model_path == "dummy"


def set_global_server_args_for_scheduler(server_args):
    sglang.STATE.append("published")
""",
    "sglang/srt/distributed/parallel_state.py": _SGLANG_PARALLEL,
    "kernels/__init__.py": "HUB = True\n",
}

_VLLM_MOE = """
import vllm
from vllm.model_executor.layers.fused_moe import get_config
from vllm.model_executor.layers.fused_moe.activation import MoEActivation
from standin_math import check_keys, moe

KEYS = {"BLOCK_SIZE_M", "BLOCK_SIZE_N", "BLOCK_SIZE_K", "GROUP_SIZE_M", "num_warps", "num_stages",
        "SPLIT_K", "waves_per_eu", "matrix_instr_nonkdim", "kpack"}


def fused_experts(
    hidden_states, w1, w2, topk_weights, topk_ids, activation=MoEActivation.SILU,
    apply_router_weight_on_input=False, global_num_experts=-1, expert_map=None, quant_config=None,
):
    assert vllm.CURRENT == [True], "no current config"
    quant = quant_config or {"dtype": None}
    dtype, config = quant["dtype"], get_config()
    grouped = dtype in ("int4_w4a16", "int8_w8a16") and quant.get("block_shape") is not None
    check_keys(config, KEYS, {"SPLIT_K"} if grouped else set())
    vllm.LAUNCHED.append(config)
    assert (topk_ids >= 0).all() and (topk_ids < global_num_experts).all()
    if expert_map is not None:
        topk_ids = expert_map[topk_ids.long()]
    return moe(
        hidden_states, w1, w2, topk_weights, topk_ids,
        activation=activation.value.removesuffix("_no_mul"), dtype=dtype,
        per_channel=quant.get("per_act_token_quant", False),
        scales=(quant.get("w1_scale"), quant.get("w2_scale")),
        zeros=(quant.get("w1_zp"), quant.get("w2_zp")),
        row_scales=(quant.get("a1_scale"), quant.get("a2_scale")),
        block=quant.get("block_shape"),
    )
"""

_VLLM_ACTIVATION = """
from enum import Enum


class MoEActivation(Enum):
    SILU = "silu"
    RELU2 = "relu2 with a gate"
    SILU_NO_MUL = "silu_no_mul"
    RELU2_NO_MUL = "relu2_no_mul"
"""

_VLLM_CONFIG = """
def fp8_w8a8_moe_quant_config(
    w1_scale, w2_scale, a1_scale=None, a2_scale=None, w1_bias=None, w2_bias=None,
    per_act_token_quant=False, per_out_ch_quant=False, block_shape=None, a1_gscale=None,
    a2_gscale=None, g1_alphas=None, g2_alphas=None, IS_SCALE_TRANSPOSED gemm1_alpha=None,
    gemm1_beta=None, gemm1_clamp_limit=None,
):
    assert per_act_token_quant == per_out_ch_quant
    return {"dtype": "fp8_w8a8", **locals()}


def int8_w8a8_moe_quant_config(
    w1_scale, w2_scale, a1_scale, a2_scale, w1_bias=None, w2_bias=None, per_act_token_quant=False,
):
    return {"dtype": "int8_w8a8", **locals()}


def int8_w8a16_moe_quant_config(
    w1_scale, w2_scale, w1_zp=None, w2_zp=None, w1_bias=None, w2_bias=None, block_shape=None,
    a1_gscale=None, a2_gscale=None, gemm1_clamp_limit=None, gemm1_alpha=None, gemm1_beta=None,
):
    return {"dtype": "int8_w8a16", **locals()}


def int4_w4a16_moe_quant_config(
    w1_scale, w2_scale, w1_zp=None, w2_zp=None, w1_bias=None, w2_bias=None, block_shape=None,
    a1_gscale=None, a2_gscale=None, gemm1_clamp_limit=None, gemm1_alpha=None, gemm1_beta=None,
):
    return {"dtype": "int4_w4a16", **locals()}
"""

_VLLM = {
    "vllm/__init__.py": "CURRENT = []\nLAUNCHED = []\n",
    "vllm/config.py": """
from contextlib import contextmanager

import vllm


class VllmConfig:
    pass


@contextmanager
def set_current_vllm_config(vllm_config, check_compile=False, prefix=None):
    vllm.CURRENT.append(True)
    yield
    vllm.CURRENT.pop()
""",
    "vllm/model_executor/layers/fused_moe/__init__.py": _OVERRIDE,
    "vllm/model_executor/layers/fused_moe/activation.py": _VLLM_ACTIVATION,
    "vllm/model_executor/layers/fused_moe/fused_moe.py": _VLLM_MOE,
    "vllm/model_executor/layers/fused_moe/config.py": _VLLM_CONFIG,
}

_SINCE_0_5_23 = ("RUNNER_BACKEND", "runner_backend: Any = None")
_SINCE_0_33 = ("IS_SCALE_TRANSPOSED", "is_scale_transposed=False,")


def write_engine(root: Path, engine: str, version: str) -> Path:
    """A folder for the import path with the engine of that version, as pip would install it."""
    files, (word, text) = {
        "sglang": (_SGLANG, _SINCE_0_5_23),
        "vllm": (_VLLM, _SINCE_0_33),
    }[engine]
    is_newest = version == VERSIONS[engine][-1]
    for path, source in files.items():
        target = root / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(source.replace(word, text if is_newest else ""))
    info = root / f"{engine}-{version}.dist-info"
    info.mkdir(parents=True)
    metadata = f"Metadata-Version: 2.1\nName: {engine}\nVersion: {version}\n"
    info.joinpath("METADATA").write_text(metadata)
    return root
