"""SGLang's own code: the file name that it makes of a checkpoint."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from types import SimpleNamespace
from typing import Any, ClassVar

from autotune.engines.known import is_of_transformers
from autotune.engines.own_code.pieces import NotFoundError, Package, Source, targets_of
from autotune.engines.own_code.question import (
    TORCH,
    ConfigView,
    Question,
    RefusalError,
    UnknownModelError,
    asked,
    layer_of,
)


class SGLangCode:
    """SGLang's own code, read from its package folder."""

    MODELS = "srt/models"
    TUNED = "srt/layers/moe/moe_runner/triton_utils/fused_moe_triton_config.py"
    BLOCKS: ClassVar[Mapping[str, tuple[str, str]]] = {
        "MixtralForCausalLM": ("mixtral.py", "MixtralDecoderLayer"),
        "MiniMaxM2ForCausalLM": ("minimax_m2.py", "MiniMaxM2MoE"),
        "MiniMaxM3SparseForCausalLM": ("minimax_m3.py", "MiniMaxM3MoE"),
        "MiniMaxM3SparseForConditionalGeneration": ("minimax_m3.py", "MiniMaxM3MoE"),
        "Qwen2MoeForCausalLM": ("qwen2_moe.py", "Qwen2MoeSparseMoeBlock"),
        "Qwen3MoeForCausalLM": ("qwen3_moe.py", "Qwen3MoeSparseMoeBlock"),
        "Qwen3VLMoeForConditionalGeneration": ("qwen3_moe.py", "Qwen3MoeSparseMoeBlock"),
        "Qwen3OmniMoeForConditionalGeneration": ("qwen3_moe.py", "Qwen3MoeSparseMoeBlock"),
        "InternVLChatModel": ("qwen3_moe.py", "Qwen3MoeSparseMoeBlock"),
        "Qwen3NextForCausalLM": ("qwen2_moe.py", "Qwen2MoeSparseMoeBlock"),
        "Qwen3_5MoeForCausalLM": ("qwen2_moe.py", "Qwen2MoeSparseMoeBlock"),
        "Qwen3_5MoeForConditionalGeneration": ("qwen2_moe.py", "Qwen2MoeSparseMoeBlock"),
        "DeepseekV2ForCausalLM": ("deepseek_v2.py", "DeepseekV2MoE"),
        "DeepseekV3ForCausalLM": ("deepseek_v2.py", "DeepseekV2MoE"),
        "DeepseekV32ForCausalLM": ("deepseek_v2.py", "DeepseekV2MoE"),
        "GlmMoeDsaForCausalLM": ("deepseek_v2.py", "DeepseekV2MoE"),
        "KimiK25ForConditionalGeneration": ("deepseek_v2.py", "DeepseekV2MoE"),
        "KimiVLForConditionalGeneration": ("deepseek_v2.py", "DeepseekV2MoE"),
        "MistralLarge3ForCausalLM": ("deepseek_v2.py", "DeepseekV2MoE"),
        "DeepseekV4ForCausalLM": ("deepseek_v2.py", "DeepseekV2MoE"),
        "Glm4MoeForCausalLM": ("glm4_moe.py", "Glm4MoeSparseMoeBlock"),
        "Glm4vMoeForConditionalGeneration": ("glm4_moe.py", "Glm4MoeSparseMoeBlock"),
        "Glm4MoeLiteForCausalLM": ("glm4_moe_lite.py", "Glm4MoeLiteSparseMoeBlock"),
        "Gemma4ForConditionalGeneration": ("gemma4_causal.py", "Gemma4MoE"),
        "Llama4ForConditionalGeneration": ("llama4.py", "Llama4MoE"),
        "NemotronHForCausalLM": ("nemotron_h.py", "NemotronHMoE"),
        "OlmoeForCausalLM": ("olmoe.py", "OlmoeDecoderLayer"),
        "PhiMoEForCausalLM": ("phimoe.py", "PhiMoEDecoderLayer"),
        "Lfm2MoeForCausalLM": ("lfm2_moe.py", "Lfm2MoeSparseMoeBlock"),
        "GptOssForCausalLM": ("gpt_oss.py", "GptOssSparseMoeBlock"),
        "BailingMoeForCausalLM": ("bailing_moe.py", "BailingMoESparseMoeBlock"),
        "BailingMoeV2ForCausalLM": ("bailing_moe.py", "BailingMoESparseMoeBlock"),
        "BailingMoeV3ForCausalLM": ("bailing_moe_v3.py", "BailingMoE"),
        "Grok1ForCausalLM": ("grok.py", "Grok1DecoderLayer"),
        "Grok1ModelForCausalLM": ("grok.py", "Grok1DecoderLayer"),
        "HYV3ForCausalLM": ("hunyuan_v3.py", "HYV3MoEFused"),
    }

    def __init__(self, root: Package) -> None:
        self.source = Source(root, {})
        self._files: dict[str, str] = {}

    def file_name(self, question: Question) -> str:
        """Return the name of the file that the engine looks for.

        Raises RefusalError where it has none, NotFoundError where that cannot be told.
        """
        source, stored = self.source, question.stored
        stand_ins = self._stand_ins(question)
        source.stand_ins = stand_ins
        file = self._file_of(question.architecture)
        if question.architecture not in self.BLOCKS:
            raise NotFoundError(
                f"it is not known here which block of {question.architecture} has experts"
            )
        quant = stored.name and SimpleNamespace(
            get_name=lambda: stored.name, weight_block_size=stored.block
        )
        fused = self._fused(question, file, quant)
        stand_ins["get_num_fused_shared_experts"] = lambda: fused
        split = self._split(self._layer(question, file, quant), fused)
        local, n = split.num_local_experts, split.intermediate_size_per_partition
        if stored.flag == "use_fp8_w8a8" and stored.block:
            self._check_blocks(n, stored.block, question.tp_size // question.ep_size)
        dtype = source.get(self.TUNED, "get_config_dtype_str")(**stored.flags())
        if stored.flag == "use_int4_w4a16":
            n //= 2  # w2_shape's last entry: two weights in a byte
        name = source.get(self.TUNED, "get_config_file_name")
        return str(name(local, n, dtype, stored.block, stored.per_channel, question.down))

    def _stand_ins(self, question: Question) -> dict[str, Any]:
        tp_size, ep_size = question.tp_size, question.ep_size
        parallel = SimpleNamespace(
            tp_size=tp_size,
            attn_tp_size=tp_size,
            moe_ep_size=ep_size,
            moe_ep_rank=0,
            moe_tp_size=tp_size // ep_size,
            moe_tp_rank=0,
            moe_dp_size=1,
        )
        moe = SimpleNamespace(
            ep_num_redundant_experts=question.redundant_experts,
            disable_shared_experts_fusion=not question.fuses,
            enforce_shared_experts_fusion=False,
            enable_waterfill=False,
            ep_join_mode=None,
        )
        cuda = SimpleNamespace(get_device_capability=lambda _="cuda": (9, 0))
        speculative = SimpleNamespace(in_speculative_scope=False)
        return {
            "torch": SimpleNamespace(**vars(TORCH), cuda=cuda),
            "get_device_name": lambda: question.device_name,
            "get_exec": lambda: SimpleNamespace(moe=moe),
            "get_parallel": lambda: parallel,
            "get_moe_a2a_backend": lambda: _Chosen("none"),
            "get_moe_runner_backend": lambda: _Chosen("triton"),
            "is_wint4afp8_or_wint4a16_config": lambda _: question.stored.flag == "use_int4_w4a16",
            "get_flags": lambda: SimpleNamespace(moe=speculative),
            "is_sbo_enabled": lambda: False,
            "is_tbo_enabled": lambda: False,
            "is_sm90_supported": lambda: True,
            "_is_cuda": True,
            "_is_hip": False,
            "_is_musa": False,
            "_is_npu": False,
            "_use_aiter": False,
            "_device_sm": 90,
            "logger": None,
            "log_info_on_rank0": lambda *_: None,
            "SharedExpertsConfig": SimpleNamespace,
            "get_moe_padding_size": lambda _: 0,
        }

    def _file_of(self, architecture: str) -> str:
        if architecture not in self._files:
            folder = self.source.root / self.MODELS
            self._files[architecture] = _file_of_class(folder, architecture)
        return self._files[architecture]

    def _fused(self, question: Question, file: str, quant: Any) -> int:
        """Return how many shared experts the model's class fuses."""
        model = self.source.get(f"{self.MODELS}/{file}", question.architecture)
        resolve = self.source.get("srt/layers/moe/utils.py", "resolve_shared_experts_config")
        hooks = SimpleNamespace(**_hooks(model))
        shared = asked("fusion", resolve, hooks, ConfigView(question.config), quant)
        return int(shared.num_fused_shared_experts)

    def _layer(self, question: Question, file: str, quant: Any) -> dict[str, Any]:
        config = ConfigView(question.text)
        names = {"config": config, "self": SimpleNamespace(config=config), "quant_config": quant}
        block_file, block = self.BLOCKS[question.architecture]
        if question.redundant_experts:
            self._check_redundant(f"{self.MODELS}/{block_file}")
        names |= self.source.constants_given(f"{self.MODELS}/{file}", block)
        return layer_of(self.source, (f"{self.MODELS}/{block_file}", block), names)

    def _check_redundant(self, file: str) -> None:
        text = (self.source.root / file).read_text(encoding="utf-8")
        if "assert get_exec().moe.ep_num_redundant_experts == 0" in text:
            raise RefusalError(f"{file} asserts that there are no redundant experts")

    def _split(self, layer: Mapping[str, Any], fused: int) -> Any:
        file = "srt/layers/moe/fused_moe_triton/layer.py"
        itself = SimpleNamespace()
        wanted = {
            "self.num_local_experts",
            "self._num_global_routed",
            "self.intermediate_size_per_partition",
        }
        given = {"num_fused_shared_experts": fused, **layer, "self": itself}
        init = self.source.function(file, "FusedMoE.__init__")
        last = 1 + max(s.lineno for s in init.body if wanted & set(targets_of(s)))
        asked("split", self.source.part_of, file, init, wanted, given, before=last)
        return itself

    def _check_blocks(self, n: int, block: list[int], moe_tp_size: int) -> None:
        """Run the raises of fp8.py's create_weights."""
        file = "srt/layers/quantization/fp8.py"
        check = self.source.statement(file, "padding_size == block_n == block_k")
        self.source.used.add(f"{file}:{check.lineno} create_weights")
        scope = {
            "intermediate_size_per_partition": n,
            "block_n": block[0],
            "block_k": block[1],
            "tp_size": moe_tp_size,
            "_use_aiter": False,
        }
        code = compile(ast.Module(body=[check], type_ignores=[]), file, "exec")
        asked("blocks", exec, code, scope)


def _hooks(model: Any) -> dict[str, Any]:
    names = ("shared_experts_fusion_disable_reason", "num_fusable_shared_experts")
    return {name: getattr(model, name) for name in names if getattr(model, name, None) is not None}


class _Chosen:
    """A backend's name: ``is_x()`` for each that there is."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __getattr__(self, question: str) -> Any:
        return lambda: question == f"is_{self.name}"


def _file_of_class(folder: Package, name: str) -> str:
    """Return the file in which SGLang's registry finds a class: one whose ``EntryClass`` has it."""
    for file, text in _modules(folder):
        if name and name in text and "EntryClass" in text and name in _entry_classes(text):
            return file
    if is_of_transformers(name):
        raise NotFoundError(f"it serves {name} by transformers' class")
    raise UnknownModelError(f"no class is called {name}: no file is asked for")


def _entry_classes(text: str) -> set[str]:
    """Return the classes of a module that the registry sees."""
    assigned = (node for node in ast.parse(text).body if "EntryClass" in targets_of(node))
    parts = (part for node in assigned for part in ast.walk(node))
    return {part.id for part in parts if isinstance(part, ast.Name)}


def _modules(folder: Package, above: str = "") -> Iterator[tuple[str, str]]:
    """Yield the Python files below a folder, each with its text."""
    entries: Iterator[Package] = iter(folder.iterdir())
    for entry in sorted(entries, key=lambda entry: entry.name):
        if entry.is_dir():
            yield from _modules(entry, f"{above}{entry.name}/")
        elif entry.name.endswith(".py"):
            yield f"{above}{entry.name}", entry.read_text(encoding="utf-8")
