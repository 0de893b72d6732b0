"""What is read out of a server's log, beside the lines that the engines' own code prints."""

from __future__ import annotations

import ast
import functools
import io
import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from string import Template
from types import SimpleNamespace
from typing import Any

import pytest

from autotune.engines.served import WANTED, Backend, FileState, Lookup, Server, read_servers
from autotune.engines.server_log import LogLine, log_lines

MOE = Path("model_executor/layers/fused_moe")
LOOKUP = {
    "vllm": MOE / "fused_moe.py",
    "sglang": Path("srt/layers/moe/moe_runner/triton_utils/fused_moe_triton_config.py"),
}
UP = "E=8,N=64,device_name=NVIDIA_H200,dtype=fp8_w8a8,block_shape=[128,128].json"
SGLANG_UP = UP.replace("128,128", "128, 128")
DOWN = SGLANG_UP.replace(".json", "_down.json")


def _read(*messages: str) -> list[Server]:
    return read_servers(LogLine(at, text, process="P") for at, text in enumerate(messages, 1))


class Printed:
    """A logger of the engines; ``lines`` are the messages."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def _take(self, message: str, *values: object, **_: object) -> None:
        self.lines.append(message % values if values else message)

    info = warning = info_once = warning_once = _take


def _functions(file: Path, name: str, scope: dict[str, Any]) -> list[Callable[..., Any]]:
    """Every function of a name in a file, run in a scope of stand-ins."""
    tree = ast.parse(file.read_text(encoding="utf-8"))
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef) and node.name == name:
            node.returns = None
            for argument in node.args.args:
                argument.annotation = None
            module = ast.fix_missing_locations(ast.Module([node], []))
            exec(compile(module, str(file), "exec"), scope)
            found.append(scope[name])
    return found


def _lookups_of(
    package: Path, engine: str, environment: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> tuple[Callable[..., Any], Printed]:
    """The engine's own lookup of files, with what it prints."""
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    printed = Printed()
    scope = {
        "functools": functools,
        "os": os,
        "json": json,
        "logger": printed,
        "Optional": Any,
        "__file__": str(package / LOOKUP[engine]),
        "envs": SimpleNamespace(
            VLLM_BATCH_INVARIANT=False,
            VLLM_TUNED_CONFIG_FOLDER=os.environ.get("VLLM_TUNED_CONFIG_FOLDER"),
        ),
        "get_device_name_as_file_name": lambda: "NVIDIA_H200",
        "get_device_name": lambda: "NVIDIA H200",
        "triton": SimpleNamespace(__version__="3.6.0"),
        "get_exec": lambda: SimpleNamespace(
            deterministic=SimpleNamespace(
                enable_deterministic_inference="DETERMINISTIC" in os.environ
            )
        ),
    }
    file = package / LOOKUP[engine]
    _functions(file, "get_config_file_name", scope)
    return _functions(file, "get_moe_configs", scope)[0], printed


def test_the_lookup_of_vllm(
    engine_package: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = engine_package("vllm") / "vllm"
    look, printed = _lookups_of(
        package, "vllm", {"VLLM_TUNED_CONFIG_FOLDER": str(tmp_path)}, monkeypatch
    )
    shipped = package / MOE / "configs"
    look(8, 64, "fp8_w8a8", 128, 128)
    [server] = _read(*printed.lines)
    missed = (str(tmp_path / UP), str(shipped / UP))
    assert [*server.lookups] == [Lookup("vllm", FileState.MISSED, UP, missed)]
    (tmp_path / UP).write_text("{}")
    look.cache_clear()  # type: ignore[attr-defined]
    look(8, 64, "fp8_w8a8", 128, 128)
    [server] = _read(printed.lines[-1])
    assert [*server.lookups] == [Lookup("vllm", FileState.OPENED, UP, opened=str(tmp_path / UP))]


def test_the_lookup_of_sglang(
    engine_package: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = engine_package("sglang") / "sglang"
    look, printed = _lookups_of(
        package, "sglang", {"SGLANG_MOE_CONFIG_DIR": str(tmp_path)}, monkeypatch
    )
    own, other = (tmp_path / "configs" / f"triton_3_{minor}_0" for minor in (6, 5))
    for folder in (own, other):
        folder.mkdir(parents=True)

    def said(*, down: bool) -> Lookup:
        look.cache_clear()  # type: ignore[attr-defined]
        printed.lines.clear()
        look(8, 64, "fp8_w8a8", 128, 128, down_moe=down)
        [server] = _read(*printed.lines)
        return next(each for each in server.lookups if each.name == (DOWN if down else SGLANG_UP))

    missed = {name: (str(own / name),) for name in (SGLANG_UP, DOWN)}
    assert said(down=False) == Lookup("sglang", FileState.MISSED, SGLANG_UP, missed[SGLANG_UP])
    assert said(down=True) == Lookup("sglang", FileState.MISSED, DOWN, missed[DOWN])
    (other / SGLANG_UP).write_text("{}")
    assert said(down=False) == Lookup(
        "sglang",
        FileState.OTHER_TRITON,
        SGLANG_UP,
        missed[SGLANG_UP],
        str(other / SGLANG_UP),
    )
    (own / SGLANG_UP).write_text("{}")
    assert said(down=False) == Lookup(
        "sglang", FileState.OPENED, SGLANG_UP, opened=str(own / SGLANG_UP)
    )
    assert said(down=True) == Lookup("sglang", FileState.UP_FILE, DOWN, missed[DOWN])
    monkeypatch.setenv("DETERMINISTIC", "1")
    look.cache_clear()  # type: ignore[attr-defined]
    printed.lines.clear()
    look(8, 64, None)
    assert _read(*printed.lines)[0].fixed


@pytest.mark.parametrize(
    ("oracle", "layers", "reads_files"),
    [
        ("unquantized", "Unquantized", True),
        ("fp8", "Fp8", True),
        ("int8", "Int8", True),
        ("int_wna16", "WNA16", True),
        ("mxfp4", "Mxfp4", False),
        ("nvfp4", "NvFp4", False),
        ("w4a8_int8", "W4A8 Int8", False),
    ],
)
def test_the_kernels_that_vllm_says_it_took(
    engine_package: Callable[[str], Path], oracle: str, layers: str, reads_files: bool
) -> None:
    file = engine_package("vllm") / "vllm" / MOE / "oracle" / f"{oracle}.py"
    taken = SimpleNamespace(value="TRITON")
    [say] = _functions(file, "_make_log_backend", {"AVAILABLE_BACKENDS": [taken]})
    [server] = _read(say(taken))
    assert [*server.backends] == [Backend(layers, "TRITON")]
    assert Backend(layers, "TRITON").reads_files is reads_files
    is_triton = 'TRITON = "TRITON"' in file.read_text(encoding="utf-8")
    assert is_triton or not reads_files


def test_lines_about_files_of_other_kernels_are_no_concern(
    engine_package: Callable[[str], Path],
) -> None:
    files = {
        "vllm": [
            MOE / "fused_flydsl_moe.py",
            Path("model_executor/layers/quantization/utils/fp8_utils.py"),
            Path("model_executor/layers/mamba/ops/mamba_ssm.py"),
        ],
        "sglang": [Path(f"kernels/ops/gemm/{kind}_kernel.py") for kind in ("fp8", "int8")],
    }
    said = [
        text.replace("%s", f"/x/{UP}")
        for name, paths in files.items()
        for path in paths
        for text in _logged(engine_package(name) / name / path)
    ]
    assert len([text for text in said if "Config file not found at" in text]) == 5
    assert len([text for text in said if text.startswith("Using ") and " from " in text]) >= 5
    assert _read(*said) == []


def _logged(file: Path) -> Iterator[str]:
    """Every text that a file's loggers print, with %s for what is put in."""
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call) and "log" in ast.unparse(node.func):
            for text in node.args:
                if isinstance(text, ast.Constant) and isinstance(text.value, str):
                    yield text.value
                elif isinstance(text, ast.JoinedStr):
                    parts = (getattr(part, "value", "") for part in text.values)
                    yield "".join(part if isinstance(part, str) else "%s" for part in parts)


def test_the_arguments_are_those_that_engines_print(engine_package: Callable[[str], Path]) -> None:
    vllm, sglang = (engine_package(name) / name for name in ("vllm", "sglang"))
    startup = (vllm / "entrypoints/common/startup.py").read_text(encoding="utf-8")
    assert 'logger.info("non-default args: %s", redact_sensitive_args(' in startup
    fields = (vllm / "engine/arg_utils.py").read_text(encoding="utf-8")
    assert [name for name in WANTED["vllm"] if f"\n    {name}: " not in fields] == []
    start = (vllm / "v1/engine/core.py").read_text(encoding="utf-8")
    assert '"Initializing a V1 LLM engine (v%s) with config: %s"' in start
    [ranks] = (
        text
        for text in _logged(vllm / MOE / "expert_map_manager.py")
        if text.startswith("[EP Rank")
    )
    [server] = _read(ranks % (0, 2, "linear", 64, 128, ""))
    assert server.args == {"ep_size": "2"}
    launch = (sglang / "srt/entrypoints/engine.py").read_text(encoding="utf-8")
    assert 'f"server_args={_server_args_for_logging(server_args)}"' in launch
    order = (sglang / "srt/arg_groups/field_order.py").read_text(encoding="utf-8")
    assert [name for name in WANTED["sglang"] if f'"{name}"' not in order] == []


class _Anything:
    """An object that has every attribute; those that are not given are all alike."""

    def __init__(self, **given: Any) -> None:
        self.__dict__.update(given)

    def __getattr__(self, name: str) -> _Anything:
        return _Anything()

    def __repr__(self) -> str:
        return "Some(thing=[1, 2], model='not this', quantization={'a': \"it's, so\"})"


def test_the_config_that_vllm_prints(engine_package: Callable[[str], Path]) -> None:
    [say, *_] = _functions(engine_package("vllm") / "vllm/config/vllm.py", "__str__", {})
    config = _Anything(
        model_config=_Anything(model='a/model, that\'s "it"', quantization="fp8"),
        parallel_config=_Anything(tensor_parallel_size=4, data_parallel_size=2),
    )
    [server] = _read(f"Initializing a V1 LLM engine (v0.33.0) with config: {say(config)}")
    assert (server.engine, server.version) == ("vllm", "0.33.0")
    assert server.args == {
        "model": 'a/model, that\'s "it"',
        "tensor_parallel_size": "4",
        "data_parallel_size": "2",
        "quantization": "fp8",
    }


@pytest.mark.parametrize("formatter", [None, "color", "plain"])
def test_the_version_that_vllm_prints(
    engine_package: Callable[[str], Path], formatter: str | None
) -> None:
    startup = engine_package("vllm") / "vllm/entrypoints/common/startup.py"
    scope = {
        "envs": SimpleNamespace(VLLM_DISABLE_LOG_LOGO=False),
        "current_formatter_type": lambda _: formatter,
        "Template": Template,
    }
    [say] = _functions(startup, "log_version_and_model", scope)
    printed = Printed()
    say(printed, "0.33.0+cu129", "a/model")
    text = "\n".join(printed.lines).encode()
    [server] = read_servers([*log_lines(io.BytesIO(text), "log")])
    assert server.version == "0.33.0+cu129"


def test_each_start_has_its_version() -> None:
    args = "non-default args: {'model': 'a', 'tensor_parallel_size': 2}"
    servers = _read(
        "vLLM server version 0.33.0, serving model a",
        args,
        f"{MISSED}/x/{UP}",
        "Launching vLLM (v0.34.0) headless multiproc executor, with head node address x",
        args,
        "  ▄▄ ▄█ █     █     █ ▀▄▀ █  version 0.35.0",  # the one before came to no layer
        args,
    )
    assert [(each.line, each.version) for each in servers] == [
        (1, "0.33.0"),
        (4, "0.34.0"),
        (6, "0.35.0"),
    ]


def test_arguments_stand_in_a_dict_or_a_call() -> None:
    call = "server_args=ServerArgs(model_path='a/b', tp_size=8, ep_size=2, quantization=None, x=[1,"
    [server] = _read(f"{call} 2], moe_runner_backend='triton')")
    assert server.args == {
        "model_path": "a/b",
        "tp_size": "8",
        "ep_size": "2",
        "moe_runner_backend": "triton",
    }
    nested = "{'speculative_config': {'model': 'draft'}, 'model': 'a/b', 'api_key': '***'}"
    [server] = _read(f"non-default args: {nested}")
    assert server.args == {"model": "a/b"}
    assert server.number("tensor_parallel_size") == 1


MISSED = "Using default MoE config. Performance might be sub-optimal! Config file not found at "


def test_a_log_may_hold_several_servers() -> None:
    config = "Initializing a V1 LLM engine (v0.33.0) with config: model='a', tensor_parallel_size="
    servers = _read(
        "non-default args: {'model': 'a', 'tensor_parallel_size': 2}",
        f"{config}2, quantization=fp8",
        f"{MISSED}/x/{UP}",
        f"{config}2, quantization=fp8",  # of another data-parallel engine
        "non-default args: {'model': 'a', 'tensor_parallel_size': 2}",
        f"Using configuration from /x/{UP} for MoE layer.",
        f"{config}4",
        "server_args={'model_path': 'a'}",
    )
    assert [each.line for each in servers] == [1, 5, 7, 8]
    assert [[lookup.state for lookup in each.lookups] for each in servers] == [
        [FileState.MISSED],
        [FileState.OPENED],
        [],
        [],
    ]
    assert servers[0].args["quantization"] == "fp8"
    assert [each.args.get("tensor_parallel_size") for each in servers] == ["2", "2", "4", None]


def test_ranks_that_say_the_same_are_one_row() -> None:
    [server] = read_servers(
        LogLine(at, f"{MISSED}/x/{UP}", process=f"Worker_TP{at % 2}") for at in range(1, 6)
    )
    [(lookup, seen)] = server.lookups.items()
    assert (seen.line, seen.processes) == (1, ["Worker_TP1", "Worker_TP0"])
    assert lookup.missed == (f"/x/{UP}",)


def test_the_list_of_an_older_vllm_is_read() -> None:
    [server] = _read(f"{MISSED}['/my folder, mine/{UP}', '/x/{UP}']")
    [lookup] = server.lookups
    assert lookup.missed == (f"/my folder, mine/{UP}", f"/x/{UP}")


def test_nonsense_is_passed_over() -> None:
    digits = "9" * 5000
    for text in (
        f"{MISSED}",
        f"{MISSED}/x/E={digits},N=1,device_name=A.json",
        f"{MISSED}{'/x' * 600_000}.json",
        "Using MoE kernel config from nowhere",
        "Using MoE backend",
    ):
        assert _read(text) == []
    [server] = _read(f"non-default args: {{'model': 'a', 'tensor_parallel_size': {digits}")
    assert server.number("tensor_parallel_size") == 1
    assert _read("server_args={[[[") == [Server("sglang", 1, sources={"args"})]
