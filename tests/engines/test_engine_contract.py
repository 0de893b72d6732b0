"""The contract of every engine: one suite over all of them."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from engine_cases import BLOCK_FP8, H200, LARGE, MI300X, SMALL, make_device, make_problem

from autotune.engines import ENGINES, Engine
from autotune.errors import EngineFileError
from autotune.models.parse import parse_shape
from autotune.models.problems import Parallelism
from autotune.spec.config import Config
from autotune.spec.problem import Dtype


@pytest.fixture(params=sorted(ENGINES))
def engine(request: pytest.FixtureRequest) -> Engine:
    return ENGINES[request.param]


def put(engine: Engine, folder: Path, problem, device, body: object) -> Path:
    """Writes ``body`` where ``lookup`` reads with the environment variable at ``folder``."""
    path = engine.path(folder.parent, problem, device)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(body) if not isinstance(body, str) else body)
    return path


@pytest.fixture
def folder(engine: Engine, tmp_path: Path) -> Path:
    return engine.env_folder(tmp_path)


def entry(config: Config = SMALL, **more: object) -> dict[str, object]:
    return {**config.as_keys(), **more}


def test_engines_are_registered_under_their_name(engine: Engine) -> None:
    assert ENGINES[engine.name] is engine
    assert engine.env_variable.startswith(engine.name.upper())


def test_a_model_is_served_whole_on_one_rank(engine: Engine) -> None:
    shape = parse_shape("E=8,topk=2,hidden=4096,intermediate=14336")
    problem = engine.serves(shape, None, Parallelism(), tokens=4, routing="uniform")
    assert problem == make_problem(tokens=4)


@pytest.mark.parametrize("dtype", list(Dtype))
@pytest.mark.parametrize("block_shape", [None, (0, 128), (128, 128)])
def test_a_name_read_back_is_spelled_the_same(engine: Engine, dtype: Dtype, block_shape) -> None:
    problem = make_problem(dtype, block_shape=block_shape, per_channel_quant=block_shape is None)
    name = engine.file_name(problem, H200)
    parts = engine.parse_name(name)
    assert parts is not None
    assert engine.spell(parts) == name
    assert (parts.experts, parts.intermediate) == (8, 14336)
    assert ("block_shape" in name) == (block_shape == (128, 128))


@pytest.mark.parametrize(
    "name", ["README.md", "E=8,N=1.json", "E=8.json", "E=x,N=1,device_name=A.json"]
)
def test_other_names_have_no_parts(engine: Engine, name: str) -> None:
    assert engine.parse_name(name) is None


@pytest.mark.parametrize(
    "name", ["../../etc/passwd", "..", "a/b", "a\\..\\b", "A\x00B", "A\nB", "", " ", "x" * 200]
)
def test_no_device_name_leads_out_of_the_output_folder(
    engine: Engine, tmp_path: Path, name: str
) -> None:
    try:
        path = engine.path(tmp_path, make_problem(), make_device(name))
    except EngineFileError as error:
        assert "file name" in str(error)
    else:
        assert path.resolve().is_relative_to(tmp_path)
        assert path.parent == engine.path(tmp_path, make_problem(), H200).parent


@pytest.mark.parametrize("version", ["../..", "", "git", "/3.6.0"])
def test_no_triton_version_leads_out_of_the_output_folder(
    engine: Engine, tmp_path: Path, version: str
) -> None:
    try:
        path = engine.path(tmp_path, make_problem(), make_device(triton_version=version))
    except EngineFileError as error:
        assert "Triton version" in str(error)
    else:
        assert path.parent == engine.env_folder(tmp_path)


def test_the_folder_of_a_path_is_the_environment_folder(engine: Engine, tmp_path: Path) -> None:
    path = engine.path(tmp_path, make_problem(), H200)
    assert engine.folder_of(path) == engine.env_folder(tmp_path) == tmp_path / engine.name


def test_body_is_ascending_and_parses_back(engine: Engine) -> None:
    configs = {4096: LARGE, 1: SMALL, 128: LARGE}
    body = engine.body(configs, make_problem(), H200)
    tokens = [key for key in body if key not in engine.header]
    assert tokens == ["1", "128", "4096"]
    assert list(body)[: len(engine.header)] == list(engine.header)
    assert list(body["1"]) == [
        *("BLOCK_SIZE_M", "BLOCK_SIZE_N", "BLOCK_SIZE_K", "GROUP_SIZE_M", "num_warps", "num_stages")
    ]
    assert engine.parse(json.loads(json.dumps(body))) == configs


def test_amd_keys_come_after_the_stages(engine: Engine) -> None:
    config = Config(64, 64, 64, 4, 4, 2, waves_per_eu=0, matrix_instr_nonkdim=16, kpack=2)
    body = engine.body({1: config}, make_problem(), MI300X)
    assert list(body["1"])[6:] == ["waves_per_eu", "matrix_instr_nonkdim", "kpack"]
    assert engine.parse(body) == {1: config}


@pytest.mark.parametrize("dtype", list(Dtype))
@pytest.mark.parametrize("tokens", [1, 8, 64, 4096])
@pytest.mark.parametrize("block_shape", [None, (0, 128), (128, 128)])
@pytest.mark.parametrize("device", [H200, MI300X], ids=lambda device: device.name)
def test_the_default_is_legal_and_is_what_runs(
    engine: Engine, dtype: Dtype, tokens: int, block_shape, device
) -> None:
    problem = make_problem(dtype, tokens=tokens, block_shape=block_shape)
    default = engine.default_config(problem, device)
    assert engine.why_illegal(problem, device, default) is None
    assert engine.launched(problem, default) == default


@pytest.mark.parametrize(
    ("config", "word"),
    [
        (Config(48, 64, 64, 1), "BLOCK_SIZE_M is 48"),
        (Config(16, 0, 64, 1), "BLOCK_SIZE_N is 0"),
        (Config(16, 64, 96, 1), "BLOCK_SIZE_K is 96"),
        (Config(16, 64, 64, 0), "GROUP_SIZE_M is 0"),
        (Config(16, 64, 64, 1, num_warps=6), "num_warps is 6"),
        (Config(16, 64, 64, 1, num_stages=0), "num_stages is 0"),
        (Config(16, 64, 64, 1, waves_per_eu=2), "waves_per_eu is a key for AMD"),
        (Config(16, 64, 256, 1), "does not divide the scale block 128"),
    ],
    ids=str,
)
def test_illegal_configs_are_named_and_not_written(
    engine: Engine, config: Config, word: str
) -> None:
    reason = engine.why_illegal(BLOCK_FP8, H200, config)
    assert reason is not None
    assert word in reason
    with pytest.raises(EngineFileError, match="for 16 tokens"):
        engine.body({16: config}, BLOCK_FP8, H200)


def test_block_n_divides_or_is_a_multiple_of_the_scale_block(engine: Engine) -> None:
    problem = make_problem(Dtype.FP8_W8A8, block_shape=(96, 128))
    assert "neither divides" in str(engine.why_illegal(problem, H200, Config(16, 64, 128, 1)))
    assert engine.why_illegal(problem, H200, Config(16, 32, 128, 1)) is None
    assert engine.why_illegal(BLOCK_FP8, H200, Config(16, 256, 128, 1)) is None


def test_block_size_m_8_is_legal_as_in_a_shipped_file(engine: Engine) -> None:
    assert engine.why_illegal(make_problem(), H200, Config(8, 64, 128, 1)) is None


def test_groups_along_k_do_not_bind_block_size_k(engine: Engine) -> None:
    problem = make_problem(Dtype.INT4_W4A16, block_shape=(0, 32))
    assert engine.why_illegal(problem, H200, Config(16, 64, 128, 1)) is None


@pytest.mark.parametrize(
    ("tokens", "key"), [(1, 1), (2, 1), (3, 4), (6, 4), (7, 8), (12, 8), (13, 16), (9999, 16)]
)
def test_lookup_takes_the_nearest_key(engine: Engine, folder: Path, tokens: int, key: int) -> None:
    problem = make_problem()
    body = {str(m): entry(Config(16 * m, 64, 64, 1)) for m in (1, 4, 8, 16)}
    path = put(engine, folder, problem, H200, body)
    found = engine.lookup(folder, problem, H200, tokens)
    assert found is not None
    assert (found.path, found.key, found.config.block_size_m) == (path, key, 16 * key)


def test_a_tie_goes_to_the_first_inserted(engine: Engine, folder: Path) -> None:
    problem = make_problem()
    put(engine, folder, problem, H200, {"16": entry(LARGE), "8": entry(SMALL)})
    found = engine.lookup(folder, problem, H200, 12)
    assert found is not None
    assert (found.key, found.config) == (16, LARGE)


def test_nothing_to_find(engine: Engine, folder: Path) -> None:
    problem = make_problem()
    assert engine.lookup(folder, problem, H200, 1) is None
    put(engine, folder, problem, H200, {})
    assert engine.lookup(folder, problem, H200, 1) is None
    assert engine.lookup(folder, make_problem(experts=9), H200, 1) is None


@pytest.mark.parametrize(
    "body",
    [
        "{",
        "[]",
        "[" * 100_000,
        '{"comment": {}}',
        {"1": entry(unknown=1)},
        {"1": {"BLOCK_SIZE_M": 16}},
        {"1": None},
        {"1": entry(num_stages="4")},
        {"1": entry(SPLIT_K=2)},
    ],
    ids=repr,
)
def test_lookup_says_what_the_engine_would_fail_on(
    engine: Engine, folder: Path, body: object
) -> None:
    path = put(engine, folder, make_problem(), H200, body)
    with pytest.raises(EngineFileError) as caught:
        engine.lookup(folder, make_problem(), H200, 1)
    assert str(path) in str(caught.value)


def test_missing_warps_and_stages_are_tritons(engine: Engine, folder: Path) -> None:
    tiles = {key: value for key, value in entry().items() if not key.startswith("num_")}
    put(engine, folder, make_problem(), H200, {"1": tiles})
    found = engine.lookup(folder, make_problem(), H200, 1)
    assert found is not None
    assert (found.config.num_warps, found.config.num_stages) == (4, 3)


def test_an_installed_engine_is_found_without_importing_it(
    engine: Engine, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    inside = {
        "sglang": "srt/layers/moe/fused_moe_triton/configs/triton_3_6_0",
        "vllm": "model_executor/layers/fused_moe/configs",
    }[engine.name]
    package = tmp_path / "site" / engine.name
    (package / inside).mkdir(parents=True)
    (package / "__init__.py").write_text("raise SystemExit('imported')")
    name = engine.file_name(make_problem(), H200)
    (package / inside / name).write_text(json.dumps({"1": entry()}))
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    monkeypatch.delitem(sys.modules, engine.name, raising=False)

    shipped = engine.installed_config_folder()
    assert shipped is not None
    found = engine.lookup(shipped, make_problem(), H200, 1)
    assert found is not None
    assert found.config == SMALL
    assert engine.name not in sys.modules


def test_a_folder_of_the_engines_name_is_no_installation(
    engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / engine.name / "configs").mkdir(parents=True)
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    assert engine.installed_config_folder() is None
