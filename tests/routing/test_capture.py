"""Small random models of transformers: what is recorded is what their own routers chose."""

from __future__ import annotations

import json
import signal
import sys
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from autotune.cli import run_command_line
from autotune.errors import MissingExtraError, ModelError, UsageError
from autotune.models.load import load_shape
from autotune.models.parse import shape_of_config
from autotune.models.problems import routing_of
from autotune.routing.capture import capture, experts_of, record, text_decoder, watching
from autotune.routing.trace_files import read_trace, write_trace

transformers = pytest.importorskip("transformers", minversion="5.0")

SIZES: dict[str, Any] = {
    "vocab_size": 64,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 128,
    "intermediate_size": 32,
    "num_experts_per_tok": 2,
    "bos_token_id": None,
    "eos_token_id": None,
    "pad_token_id": None,
}
LOCAL = {"num_local_experts": 8}
QWEN = {"num_experts": 8, "moe_intermediate_size": 16, "head_dim": 8}
DEEPSEEK = {
    "n_routed_experts": 8,
    "moe_intermediate_size": 16,
    "n_shared_experts": 1,
    "first_k_dense_replace": 1,
    "n_group": 4,
    "topk_group": 2,
}
LATENT = {
    "num_key_value_heads": 4,
    "kv_lora_rank": 16,
    "q_lora_rank": 16,
    "qk_rope_head_dim": 8,
    "qk_nope_head_dim": 8,
    "v_head_dim": 8,
}
SHARED = {"shared_expert_intermediate_size": 16}
LINEAR = {
    "linear_num_value_heads": 4,
    "linear_num_key_heads": 2,
    "linear_key_head_dim": 8,
    "linear_value_head_dim": 8,
}
HYBRID = {
    "num_hidden_layers": 4,
    "attn_layer_period": 2,
    "attn_layer_offset": 1,
    "expert_layer_period": 2,
    "expert_layer_offset": 1,
    "mamba_d_state": 8,
    "mamba_dt_rank": 4,
}
ROPE = {"rope_parameters": {"rope_type": "default", "rope_theta": 1e4, "mrope_section": [2, 1, 1]}}

# Family → its sizes beside SIZES, and its layers with experts.
FAMILIES: dict[str, tuple[dict[str, Any], list[int]]] = {
    "Mixtral": (LOCAL, [0, 1]),
    "Qwen2Moe": (QWEN | SHARED, [0, 1]),
    "Qwen3Moe": (QWEN, [0, 1]),
    "Qwen3Next": (QWEN | SHARED | LINEAR, [0, 1]),
    "Olmoe": ({"num_experts": 8}, [0, 1]),
    "GptOss": (LOCAL | {"head_dim": 8}, [0, 1]),
    "DeepseekV2": (DEEPSEEK | LATENT | {"topk_method": "group_limited_greedy"}, [1]),
    "DeepseekV3": (DEEPSEEK | LATENT, [1]),
    "Glm4Moe": (DEEPSEEK | {"head_dim": 8}, [1]),
    "Jamba": ({"num_experts": 8} | HYBRID, [1, 3]),
    "MiniMaxM2": (LOCAL | {"head_dim": 8, "rotary_dim": 8}, [0, 1]),
    "Phimoe": (LOCAL, [0, 1]),
}
SEQUENCES = [[1, 5, 9, 13, 2, 6, 10], [63, 0, 31, 17, 40]]


def _model(family: str) -> Any:
    torch.manual_seed(0)
    if family == "Dbrx":
        config = transformers.DbrxConfig(
            d_model=32,
            n_heads=4,
            n_layers=2,
            max_seq_len=128,
            vocab_size=64,
            attn_config={"kv_n_heads": 2, "clip_qkv": 8, "rope_theta": 10000.0},
            ffn_config={
                "hidden_size": 32,
                "ffn_hidden_size": 32,
                "moe_num_experts": 8,
                "moe_top_k": 2,
            },
        )
        return transformers.DbrxForCausalLM(config).eval()
    if family == "Llama4":
        more = {
            "num_experts_per_tok": 1,
            "interleave_moe_layer_step": 2,
            "intermediate_size_mlp": 32,
        }
        config = transformers.Llama4TextConfig(**(SIZES | LOCAL | more | {"head_dim": 8}))
        return transformers.Llama4ForCausalLM(config).eval()
    if family == "Qwen3VLMoe":
        vision = {
            "depth": 1,
            "hidden_size": 16,
            "intermediate_size": 16,
            "num_heads": 2,
            "out_hidden_size": 32,
            "deepstack_visual_indexes": [0],
        }
        config = transformers.Qwen3VLMoeConfig(
            text_config=SIZES | QWEN | ROPE, vision_config=vision
        )
        return transformers.Qwen3VLMoeForConditionalGeneration(config).eval()
    if family == "Llama4Images":
        config = transformers.Llama4Config(
            text_config=_model("Llama4").config.to_dict(),
            vision_config={
                "hidden_size": 16,
                "num_hidden_layers": 1,
                "num_attention_heads": 2,
                "intermediate_size": 64,
                "vision_output_dim": 16,
                "projector_input_dim": 16,
                "projector_output_dim": 16,
            },
        )
        return transformers.Llama4ForConditionalGeneration(config).eval()
    config = getattr(transformers, f"{family}Config")(**(SIZES | FAMILIES[family][0]))
    return getattr(transformers, f"{family}ForCausalLM")(config).eval()


LAYERS = {family: layers for family, (_, layers) in FAMILIES.items()}
LAYERS |= {"Dbrx": [0, 1], "Llama4": [1], "Llama4Images": [1], "Qwen3VLMoe": [0, 1]}


def _gates(model: Any) -> dict[int, torch.nn.Module]:
    """Layer → the module with the router's weight, found by its name and not by what is tested."""
    found = {}
    for name, module in model.named_modules():
        if name.split(".")[-1] in ("gate", "router"):
            layer = next(int(part) for part in name.split(".") if part.isdigit())
            found[layer] = module
    return found


def _grouped(scores: torch.Tensor, best: int) -> torch.Tensor:
    """Scores of the two best of four groups of two experts; the rest are as low as can be."""
    groups = scores.view(-1, 4, 2)
    kept = groups.topk(best, dim=-1).values.sum(-1).topk(2, dim=-1).indices
    mask = torch.zeros(len(scores), 4).scatter_(1, kept, 1).bool()
    return scores.masked_fill(~mask.repeat_interleave(2, 1), -torch.inf)


def _chosen(family: str, gate: Any, hidden: torch.Tensor) -> torch.Tensor:
    """Choose as the family's published router does for ``hidden`` [tokens, H]: written anew."""
    hidden = hidden.reshape(-1, hidden.shape[-1])
    linear = getattr(gate, "layer", gate)
    logits = torch.nn.functional.linear(hidden, linear.weight, getattr(linear, "bias", None))
    if family in ("DeepseekV3", "Glm4Moe"):
        scores = logits.sigmoid() + gate.e_score_correction_bias
        logits = _grouped(scores, best=2)
    elif family == "DeepseekV2":
        logits = _grouped(logits.softmax(-1), best=1)
    elif family == "MiniMaxM2":
        logits = logits.sigmoid() + getattr(gate, "e_score_correction_bias", 0)
    return logits.topk(1 if family.startswith("Llama4") else 2, dim=-1).indices


@pytest.mark.parametrize("family", sorted(LAYERS))
def test_ids_are_what_the_models_router_chose(family: str, tmp_path: Path) -> None:
    model = _model(family)
    gates = _gates(model)
    expected: dict[int, list[torch.Tensor]] = {layer: [] for layer in gates}
    for layer, gate in gates.items():

        def note(module: Any, args: Any, output: Any, layer: int = layer) -> None:
            expected[layer].append(_chosen(family, module, args[0]))

        gate.register_forward_hook(note)
    layers = record(model, SEQUENCES)
    assert sorted(layers) == LAYERS[family] == sorted(gates)
    for layer, rows in layers.items():
        assert rows.ids.dtype == np.int32
        assert rows.sequences.tolist() == [0] * 7 + [1] * 5
        theirs = torch.cat(expected[layer]).numpy()
        assert np.array_equal(np.sort(rows.ids, axis=1), np.sort(theirs, axis=1))
        assert len(np.unique(rows.ids)) > 2


@pytest.mark.parametrize("family", sorted(LAYERS))
def test_a_saved_model_says_how_many_experts_it_has(family: str) -> None:
    """Its config has the names that this transformers saves; its modules agree."""
    model = _model(family)
    config = json.loads(model.config.to_json_string()) | {"architectures": [type(model).__name__]}
    shape = shape_of_config(family, config)
    assert shape.experts == experts_of(model) == 8
    assert shape.top_k == (1 if family.startswith("Llama4") else 2)
    assert not shape.moe_layers or list(shape.moe_layers) == LAYERS[family]


@pytest.mark.parametrize("family", sorted(set(LAYERS) - {"Llama4Images"}))
def test_the_decoder_chooses_as_the_whole_model_does(family: str) -> None:
    model = _model(family)
    whole: dict[int, list[int]] = {}
    with (
        watching(model, lambda layer, ids: whole.update({layer: ids.tolist()})),
        torch.inference_mode(),
    ):
        model(input_ids=torch.tensor(SEQUENCES[:1]), use_cache=False)
    layers = record(model, SEQUENCES[:1])
    assert {layer: rows.ids.tolist() for layer, rows in layers.items()} == whole


def test_a_model_without_a_decoder_is_run_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    model = _model("Mixtral")
    expected = record(model, SEQUENCES)

    def none(_: Any) -> None:
        raise NotImplementedError

    monkeypatch.setattr(type(model), "get_decoder", none)
    assert text_decoder(model) is model
    for layer, rows in record(model, SEQUENCES).items():
        assert np.array_equal(rows.ids, expected[layer].ids)


def test_the_head_is_not_run() -> None:
    model = _model("Qwen3Moe")
    model.lm_head.register_forward_pre_hook(lambda *_: pytest.fail("logits were computed"))
    assert record(model, SEQUENCES)


def test_ids_agree_with_output_router_logits() -> None:
    model = _model("Mixtral")
    layers = record(model, SEQUENCES[:1])
    with torch.inference_mode():
        outputs = model(input_ids=torch.tensor(SEQUENCES[:1]), output_router_logits=True)
    for layer, logits in enumerate(outputs.router_logits):
        assert layers[layer].ids.tolist() == logits.topk(2, dim=-1).indices.tolist()


def test_a_dense_model_is_refused_and_left_without_hooks() -> None:
    sizes = {key: value for key, value in SIZES.items() if key != "num_experts_per_tok"}
    model = transformers.LlamaForCausalLM(transformers.LlamaConfig(**sizes))
    with pytest.raises(ModelError, match=r"no module here says .* Known are .* Llama4Router"):
        record(model, SEQUENCES)
    mixtral = _model("Mixtral")
    record(mixtral, SEQUENCES)
    assert not any(module._forward_pre_hooks for module in mixtral.modules())


def test_layers_that_say_nothing_are_named() -> None:
    """Layers of gpt-oss may, where MXFP4 kernels replace the block's forward."""
    model = _model("GptOss")
    model.model.layers[1].mlp.forward = lambda hidden: (hidden, None)
    with pytest.raises(ModelError, match=r"experts of layers 1 ran without .*MXFP4.* bf16"):
        record(model, SEQUENCES)


def test_no_tokens_at_all() -> None:
    with pytest.raises(UsageError, match=r"the texts hold no tokens. Give --prompts"):
        record(_model("Mixtral"), [])


def test_a_forward_that_fails_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    model = _model("Mixtral")

    def fail(*_: Any, **__: Any) -> None:
        raise AttributeError("no image_outputs")

    monkeypatch.setattr(type(model.model), "forward", fail)
    with pytest.raises(
        ModelError, match=r"run Mixtral.*: AttributeError: no image_outputs. Try an"
    ):
        record(model, SEQUENCES)


def test_ctrl_c_keeps_the_texts_that_were_whole() -> None:
    model = _model("Mixtral")
    whole = record(model, SEQUENCES)
    starts = iter([None, KeyboardInterrupt, KeyboardInterrupt])

    def interrupt(*_: Any) -> None:
        error = next(starts)
        if error:
            raise error

    model.model.layers[1].register_forward_pre_hook(interrupt)  # layer 0 has chosen by then
    done: list[tuple[int, int]] = []
    for layer, rows in record(model, SEQUENCES, lambda *each: done.append(each)).items():
        assert np.array_equal(rows.ids, whole[layer].ids[:7])
        assert rows.sequences.tolist() == [0] * 7
    assert done == [(7, 12)]
    with pytest.raises(KeyboardInterrupt):  # the first text was not whole
        record(model, SEQUENCES)


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    """A tiny Mixtral with a tokenizer of single characters."""
    return _saved("Mixtral", tmp_path / "tiny")


def _saved(family: str, folder: Path) -> Path:
    tokenizers = pytest.importorskip("tokenizers")
    _model(family).save_pretrained(folder)
    words = {"?": 0} | {chr(code): code - 32 for code in range(33, 96)}
    tokenizer = tokenizers.Tokenizer(tokenizers.models.WordLevel(words, unk_token="?"))
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.Split("", "isolated")
    wrapped = transformers.PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="?")
    wrapped.save_pretrained(folder)
    return folder


def test_from_a_checkpoint_to_a_folder_that_is_read_back(
    checkpoint: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    texts = ["THE FIRST TEXT", "A SECOND ONE", "AND MORE"]
    recording = capture(str(checkpoint), texts, tokens=20)
    noted = [recording.notes[name] for name in ("experts", "top_k", "sequences", "tokens")]
    assert noted == ["8", "2", "2", "20"]
    assert recording.layers[0].sequences.tolist() == [0] * 14 + [1] * 6
    write_trace(recording, tmp_path / "ids")
    assert read_trace(tmp_path / "ids").digest == recording.digest
    assert not caplog.records
    assert capture(str(checkpoint), texts, tokens=1000).fewest_rows == 34
    assert "the texts hold 34 tokens, not 1000" in caplog.text


@pytest.mark.parametrize("family", ["Llama4Images", "Qwen3VLMoe", "Qwen3Moe"])
def test_a_saved_model_is_recorded_and_tuned_on_it(family: str, tmp_path: Path) -> None:
    """Two with images, whose whole forward may want some; and the names that are saved anew."""
    folder = _saved(family, tmp_path / "tiny")
    recording = capture(str(folder), ["SOME TEXT"], 9)
    assert recording.notes["experts"] == "8"
    write_trace(recording, tmp_path / "ids")
    shape = load_shape(str(folder))
    assert routing_of(shape, recording.routing, str(tmp_path / "ids"), 1) == recording.routing


def test_a_long_text_is_several_sequences(checkpoint: Path) -> None:
    """The model takes 128 tokens."""
    recording = capture(str(checkpoint), ["A" * 300, "B"], tokens=1000)
    assert np.bincount(recording.layers[0].sequences).tolist() == [128, 128, 44, 1]
    recording = capture(str(checkpoint), ["A" * 300, "B"], tokens=130)
    assert np.bincount(recording.layers[0].sequences).tolist() == [128, 2]


def test_columns_of_fused_shared_experts(checkpoint: Path) -> None:
    """SGLang has them as ids after those of the routed experts, for every token."""
    plain = capture(str(checkpoint), ["SOME TEXT"], 9)
    fused = capture(str(checkpoint), ["SOME TEXT"], 9, fused_shared_experts=1)
    assert plain.columns == 2
    assert fused.notes["top_k"] == "2"
    fused.check(experts=8, top_k=2)
    for layer, rows in fused.layers.items():
        assert np.array_equal(rows.ids[:, :2], plain.layers[layer].ids)
        assert rows.ids[:, 2:].tolist() == [[8]] * 9


def test_the_folder_is_checked_before_the_model_runs(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    (tmp_path / "texts").write_text("SOME TEXT\nAND MORE")
    words = ["capture-routing", "--model", str(checkpoint), "--prompts", str(tmp_path / "texts")]
    words += ["--output-dir", str(tmp_path / "ids")]
    assert run_command_line(words) == 0
    assert (
        run_command_line(
            ["routing-stats", str(tmp_path / "ids"), "--plot", str(tmp_path / "a.png")]
        )
        == 0
    )
    monkeypatch.setattr("autotune.routing.capture.capture", None)
    assert run_command_line(words) == 2
    assert "holds a recording already" in capsys.readouterr().err
    (tmp_path / "file").write_text("")
    assert run_command_line([*words[:-1], str(tmp_path / "file" / "ids")]) == 2
    assert run_command_line([*words, "--fused-shared-experts", "-1"]) == 2


def test_an_interrupted_recording_says_so(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    def bar(*_: Any, **__: Any) -> Any:
        return nullcontext(lambda done, _: signal.raise_signal(signal.SIGINT) if done else None)

    monkeypatch.setattr("autotune.report.terminal.bars.token_bar", bar)
    (tmp_path / "texts").write_text("SOME TEXT\nAND MORE")
    words = ["capture-routing", "--model", str(checkpoint), "--prompts", str(tmp_path / "texts")]
    assert run_command_line([*words, "--output-dir", str(tmp_path / "ids")]) == 130
    assert "these are 9 tokens, not 8192" in capsys.readouterr().err
    assert read_trace(tmp_path / "ids").fewest_rows == 9

    def interrupted(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("autotune.routing.capture._run", interrupted)
    assert run_command_line([*words, "--output-dir", str(tmp_path / "more")]) == 130
    assert f"nothing is written to {tmp_path / 'more'}" in capsys.readouterr().err
    assert not (tmp_path / "more").exists()


def test_a_model_that_does_not_fit_is_offloaded(checkpoint: Path, tmp_path: Path) -> None:
    load = transformers.MixtralForCausalLM.from_pretrained
    whole = record(load(checkpoint), SEQUENCES)
    offloaded = load(
        checkpoint,
        device_map="auto",
        max_memory={"cpu": "60KB"},
        offload_folder=tmp_path / "offload",
    )
    assert "disk" in offloaded.hf_device_map.values()
    for layer, rows in record(offloaded, SEQUENCES).items():
        assert np.array_equal(rows.ids, whole[layer].ids)


def test_what_transformers_cannot_run(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="transformers cannot run"):
        capture(str(tmp_path), ["text"], 8)


@pytest.mark.parametrize("missing", ["transformers", "accelerate"])
def test_a_missing_library_names_the_extra(missing: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, missing, None)
    with pytest.raises(MissingExtraError, match=rf"{missing}.*moe-autotune\[capture\]"):
        capture("any", ["text"], 8)
