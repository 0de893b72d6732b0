"""Names and paths → shapes: folders, the catalogue, the local cache, the hub, and misses."""

from __future__ import annotations

import inspect
import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest
from huggingface_hub import errors

from autotune.errors import ModelError
from autotune.models.load import catalogue_shapes, load_shape
from autotune.spec.problem import Dtype

CONFIG = {
    "architectures": ["MixtralForCausalLM"],
    "hidden_size": 64,
    "intermediate_size": 32,
    "num_local_experts": 8,
    "num_experts_per_tok": 2,
}


class Response:
    """The part of an HTTP response that the library's errors read."""

    def __init__(self, status_code: int) -> None:
        self.status_code = status_code
        self.headers: dict[str, str] = {}
        self.request = None


def http_error(kind: type[errors.HfHubHTTPError], status: int) -> errors.HfHubHTTPError:
    return kind("refused", response=Response(status))  # type: ignore[arg-type]


def connect_error() -> Exception:
    """The HTTP client's own, of whichever client the library has: no subclass of OSError."""
    client = inspect.getmodule(errors.HfHubHTTPError.__bases__[0])
    assert client is not None
    kind = getattr(client, "ConnectError", None) or getattr(client, "ConnectionError", OSError)
    error = kind("no route")
    assert isinstance(error, Exception)
    return error


@pytest.fixture
def empty_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "hub"
    folder.mkdir()
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(folder))
    return folder


@pytest.fixture
def hub(empty_cache: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[Exception], None]:
    """Makes the hub answer every question with the given error."""

    def answers(error: Exception) -> None:
        def refuse(*args: Any, **more: Any) -> None:
            raise error

        monkeypatch.setattr(huggingface_hub, "get_hf_file_metadata", refuse)
        monkeypatch.setattr(huggingface_hub, "hf_hub_download", refuse)

    return answers


@pytest.fixture
def no_hub(hub: Callable[[Exception], None]) -> None:
    hub(AssertionError("the hub was asked"))


def write_config(folder: Path, text: str = json.dumps(CONFIG)) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "config.json"
    file.write_text(text, encoding="utf-8")
    return file


def write_sidecar(folder: Path, algorithm: str = "FP8") -> Path:
    file = folder / "hf_quant_config.json"
    file.write_text(json.dumps({"quantization": {"quant_algo": algorithm}}), encoding="utf-8")
    return file


@pytest.mark.usefixtures("no_hub")
@pytest.mark.parametrize("of", ["folder", "file"])
@pytest.mark.parametrize(("algorithm", "dtype"), [("FP8", Dtype.FP8_W8A8), ("NVFP4", None)])
def test_what_lies_beside_a_local_config_is_read(
    tmp_path: Path, of: str, algorithm: str, dtype: Dtype | None
) -> None:
    file = write_config(tmp_path)
    write_sidecar(tmp_path, algorithm)
    stored = load_shape(str(file if of == "file" else tmp_path)).quantization
    assert stored is not None
    assert (stored.method, stored.dtype) == (f"modelopt {algorithm}", dtype)


@pytest.mark.usefixtures("no_hub")
@pytest.mark.parametrize("of", ["folder", "file"])
def test_local(tmp_path: Path, of: str) -> None:
    file = write_config(tmp_path / "my-model")
    shape = load_shape(str(file if of == "file" else file.parent))
    assert (shape.name, shape.experts, shape.hidden) == ("my-model", 8, 64)


@pytest.mark.usefixtures("no_hub")
def test_a_local_folder_comes_before_the_catalogue(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_config(tmp_path / "Qwen" / "Qwen3-30B-A3B")
    monkeypatch.chdir(tmp_path)
    assert load_shape("Qwen/Qwen3-30B-A3B").experts == 8


@pytest.mark.usefixtures("no_hub")
@pytest.mark.parametrize(
    "name", ["Qwen/Qwen3-30B-A3B", "qwen/qwen3-30b-a3b", "qwen3-30B-a3b", " Qwen3-30B-A3B "]
)
def test_catalogue_names(name: str) -> None:
    assert load_shape(name).name == "Qwen/Qwen3-30B-A3B"


@pytest.mark.usefixtures("no_hub")
def test_catalogue_is_sorted_and_each_entry_loads_by_name() -> None:
    shapes = catalogue_shapes()
    names = [shape.name for shape in shapes]
    assert names == sorted(names, key=str.lower)
    assert len({name.lower() for name in names}) == len(names)
    assert all(load_shape(shape.name) == shape for shape in shapes)


def test_the_dense_model_warns(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        shape = load_shape("THUDM/glm-4-9b-chat")
    assert shape.dense
    assert "THUDM/glm-4-9b-chat is a dense model" in caplog.text


@pytest.mark.usefixtures("no_hub")
def test_the_cache_comes_before_the_hub(empty_cache: Path) -> None:
    repo = empty_cache / "models--new--model"
    commit = "0123456789012345678901234567890123456789"
    write_config(repo / "snapshots" / commit)
    write_sidecar(repo / "snapshots" / commit)
    (repo / "refs").mkdir()
    (repo / "refs" / "main").write_text(commit, encoding="utf-8")
    shape = load_shape("new/model")
    assert (shape.name, shape.experts) == ("new/model", 8)
    assert shape.quantization is not None


@pytest.mark.usefixtures("empty_cache")
@pytest.mark.parametrize("quantised", [False, True])
def test_the_hub_is_asked_for_json_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, quantised: bool
) -> None:
    asked: list[tuple[str, str]] = []

    def download(repo: str, filename: str, **more: Any) -> str:
        asked.append((repo, filename))
        if filename == "config.json":
            return str(write_config(tmp_path / "downloaded"))
        if not quantised:
            raise errors.EntryNotFoundError("404")
        return str(write_sidecar(tmp_path / "downloaded"))

    monkeypatch.setattr(huggingface_hub, "get_hf_file_metadata", lambda url, timeout: None)
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", download)
    shape = load_shape("new/model")
    assert shape.name == "new/model"
    assert (shape.quantization is not None) == quantised
    assert asked == [("new/model", "config.json"), ("new/model", "hf_quant_config.json")]


@pytest.mark.parametrize(
    ("error", "says"),
    [
        (http_error(errors.GatedRepoError, 403), r"gated.*log in"),
        (http_error(errors.RepositoryNotFoundError, 401), r"no such model.*private.*log in"),
        (http_error(errors.RepositoryNotFoundError, 404), r"no such model"),
        (http_error(errors.HfHubHTTPError, 401), r"answers 401.*log in"),
        (http_error(errors.HfHubHTTPError, 403), r"answers 403.*log in"),
        (http_error(errors.HfHubHTTPError, 500), r"answers 500"),
        (errors.LocalEntryNotFoundError("no"), r"could not be reached"),
        (errors.EntryNotFoundError("no"), r"has no config\.json"),
        (errors.OfflineModeIsEnabled("off"), r"could not be reached"),
        (connect_error(), r"could not be reached"),
        (OSError("no route"), r"could not be reached"),
    ],
)
def test_what_the_hub_may_answer(
    hub: Callable[[Exception], None], error: Exception, says: str
) -> None:
    hub(error)
    with pytest.raises(ModelError, match=says) as raised:
        load_shape("some/model")
    message = str(raised.value)
    assert message.startswith("--model some/model: ")
    assert "--shape E=.." in message
    assert raised.value.__suppress_context__ or raised.value.__context__ is None  # its 100 lines


@pytest.mark.parametrize(
    ("misspelt", "meant"),
    [
        ("Qwen/Qwen3-30B-A3", "Qwen/Qwen3-30B-A3B"),
        ("mixtral-8x7b", "mistralai/Mixtral-8x7B-v0.1"),
        ("deepseek/DeepSeek-V3", "deepseek-ai/DeepSeek-V3"),
        ("deepsek-v3", "deepseek-ai/DeepSeek-V3"),
    ],
)
def test_a_misspelt_name_offers_close_ones(
    hub: Callable[[Exception], None], misspelt: str, meant: str
) -> None:
    hub(errors.LocalEntryNotFoundError("no"))
    with pytest.raises(ModelError) as raised:
        load_shape(misspelt)
    assert meant in str(raised.value)


@pytest.mark.usefixtures("no_hub")
def test_a_name_that_no_repository_can_have() -> None:
    with pytest.raises(ModelError, match="not a name that the Hugging Face Hub allows"):
        load_shape("a/b/c")


@pytest.mark.usefixtures("no_hub")
@pytest.mark.parametrize("path", ["./nowhere", "/nowhere/at/all", "nowhere/config.json"])
def test_a_missing_path_is_no_hub_name(path: str) -> None:
    with pytest.raises(ModelError, match="no such folder or file"):
        load_shape(path)


@pytest.mark.usefixtures("no_hub")
def test_an_empty_name() -> None:
    with pytest.raises(ModelError, match="--model is empty"):
        load_shape("  ")


@pytest.mark.usefixtures("no_hub")
def test_a_folder_without_a_config(tmp_path: Path) -> None:
    folder = tmp_path / "checkpoint"
    folder.mkdir()
    (folder / "weights.safetensors").touch()
    with pytest.raises(ModelError, match=r"without a config\.json \(it holds weights"):
        load_shape(str(folder))


@pytest.mark.usefixtures("no_hub")
@pytest.mark.parametrize(
    ("text", "says"),
    [
        ('{"architectures": ["Mix', r"config\.json is not JSON"),
        ("", "is not JSON"),
        ("[1, 2]", "holds a JSON list"),
        ('{"architectures": ["LlamaForCausalLM"], "hidden_size": 64}', "is a dense model"),
    ],
)
def test_a_bad_config(tmp_path: Path, text: str, says: str) -> None:
    write_config(tmp_path, text)
    with pytest.raises(ModelError, match=says):
        load_shape(str(tmp_path))


@pytest.mark.usefixtures("no_hub")
def _fp8(side: Any) -> dict[str, Any]:
    return {"quantization_config": {"quant_method": "fp8", "weight_block_size": [side, 128]}}


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"num_experts_per_tok": 9}, "topk=9"),
        ({"hidden_size": 10**30}, "the others up to 1000000"),
        ({"num_hidden_layers": 10**9}, "1000000000 hidden layers"),
        ({"n_shared_experts": -1}, "shared experts is -1"),
        ({"first_k_dense_replace": -2}, "leading dense layers is -2"),
        ({"n_group": 10**30}, "groups of experts is 10"),
        (_fp8(-128), "a side of the scale block is -128"),
        (_fp8("a"), "a side of the scale block is a"),
        (_fp8(10**30), "from 1 to 1,000,000"),
        ({"quantization_config": {"quant_method": "gptq", "bits": 4, "group_size": 10**9}}, "size"),
    ],
)
def test_numbers_that_cannot_be(tmp_path: Path, fields: dict[str, Any], says: str) -> None:
    (tmp_path / "config.json").write_text(json.dumps(CONFIG | fields))
    with pytest.raises(ModelError, match=says):
        load_shape(str(tmp_path))


@pytest.mark.parametrize(
    "fields",
    [
        {"auto_map": 5},
        {"decoder_sparse_step": 1, "num_hidden_layers": 4, "mlp_only_layers": "all"},
        {"quantization_config": {"config_groups": {"a": {"targets": 5, "weights": {}}}}},
        {"quantization_config": {"quant_method": "fp8", "ignore": ["re:a{9999999999}"]}},
    ],
)
def test_fields_of_another_kind_say_nothing(tmp_path: Path, fields: dict[str, Any]) -> None:
    (tmp_path / "config.json").write_text(json.dumps(CONFIG | fields))
    assert load_shape(str(tmp_path)).experts == 8


@pytest.mark.parametrize("depth", [60, 5000])
def test_a_deep_config(tmp_path: Path, depth: int) -> None:
    text = '{"text_config":' * depth + json.dumps(CONFIG) + "}" * depth
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(ModelError, match=r"deep|not JSON"):
        load_shape(str(tmp_path))


def test_a_config_that_is_not_text(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_bytes(b"\xff\xfe\x00binary")
    with pytest.raises(ModelError, match="is not JSON"):
        load_shape(str(tmp_path))
