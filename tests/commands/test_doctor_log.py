"""``doctor --server-log`` over logs in the engines' own words."""

from __future__ import annotations

import io
import json
import shlex
import sys
from pathlib import Path
from typing import Any

import pytest
from checked_json import checked  # type: ignore[import-not-found]

from autotune.cli import run_command_line
from autotune.commands import missing_files
from autotune.exit_codes import ExitCode

VLLM_SHIPPED = "/opt/vllm/model_executor/layers/fused_moe/configs"
SGLANG_SHIPPED = "/opt/sglang/srt/layers/moe/moe_runner/triton_utils/configs"
MISSED = "Using default MoE config. Performance might be sub-optimal! Config file not found at "
SGLANG_MISSED = MISSED.replace("MoE config", "MoE kernel config")
BF16 = "E=128,N=384,device_name=NVIDIA_H200.json"


def _args(**args: Any) -> str:
    return f"(APIServer pid=1) INFO 11-30 01:15:25 [startup.py:96] non-default args: {args}"


def _server_args(**args: Any) -> str:
    return f"[2026-11-30 01:15:25] server_args={args}"


def _worker(message: str, rank: int = 0) -> str:
    return f"(Worker_TP{rank} pid={rank + 7}) WARNING 11-30 01:15:25 [x.py:1] {message}"


def _scheduler(message: str, rank: int = 0) -> str:
    return f"[2026-11-30 01:15:25 TP{rank}] {message}"


class Doctor:
    """The command over a log."""

    def __init__(self, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.file = folder / "server.log"
        self.capsys = capsys

    def __call__(self, *lines: str, more: tuple[str, ...] = ()) -> tuple[int, dict[str, Any]]:
        self.file.write_text("\n".join(lines) + "\n")
        code = run_command_line(["doctor", "--server-log", str(self.file), "--json", *more])
        data: dict[str, Any] = checked(self.capsys.readouterr().out, "server-log")
        assert data["lines"] == len(lines)
        return code, data

    def text(self) -> str:
        run_command_line(["doctor", "--server-log", str(self.file)])
        return self.capsys.readouterr().out


@pytest.fixture
def doctor(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Doctor:
    missing_files._asked.cache_clear()
    return Doctor(tmp_path, capsys)


def test_a_missed_file_of_vllm_gets_its_command(doctor: Doctor) -> None:
    missed = [f"/tuned/{BF16}", f"{VLLM_SHIPPED}/{BF16}"]
    code, data = doctor(
        _args(model="Qwen/Qwen3-30B-A3B", tensor_parallel_size=2),
        _worker("Using TRITON Unquantized MoE backend out of potential backends: ['TRITON']."),
        *(_worker(f"{MISSED}{', '.join(missed)}", rank) for rank in (0, 1)),
    )
    assert code == ExitCode.FAILED
    [server] = data["servers"]
    [row] = server["files"]
    assert (row["state"], row["missed"], row["processes"]) == (
        "missed",
        missed,
        ["Worker_TP0", "Worker_TP1"],
    )
    assert row["command"] == (
        "python -m autotune run --model Qwen/Qwen3-30B-A3B --tp-size 2 --engine vllm"
    )
    assert (row["makes"], row["note"]) == (BF16, None)
    assert row["export"] == "export VLLM_TUNED_CONFIG_FOLDER=$PWD/configs/vllm"
    assert [(each["kernel"], each["reads_files"]) for each in server["kernels"]] == [
        ("TRITON", True)
    ]
    shown = doctor.text()
    assert VLLM_SHIPPED in shown
    assert row["command"] in shown
    assert row["export"] in shown


def test_opened_files_alone_are_fine(doctor: Doctor) -> None:
    code, data = doctor(
        _args(model="Qwen/Qwen3-30B-A3B"),
        _worker(f"Using configuration from {VLLM_SHIPPED}/{BF16} for MoE layer."),
    )
    [row] = data["servers"][0]["files"]
    assert (code, row["state"], row["command"]) == (ExitCode.DONE, "opened", None)
    assert row["opened"] == f"{VLLM_SHIPPED}/{BF16}"
    assert "run" not in doctor.text()


def test_the_output_goes_where_the_server_looks_now(doctor: Doctor) -> None:
    _, data = doctor(
        _args(model="Qwen/Qwen3-30B-A3B", tensor_parallel_size=2),
        _worker(f"{MISSED}/my tuned/vllm/{BF16}, {VLLM_SHIPPED}/{BF16}"),
    )
    [row] = data["servers"][0]["files"]
    assert shlex.split(row["command"])[-4:] == ["--output-dir", "/my tuned", "--engine", "vllm"]
    assert row["export"] is None
    assert "the server looks there already" in doctor.text()


@pytest.mark.parametrize(
    ("engine", "args", "name", "flags"),
    [
        (
            "vllm",
            {"model": "Qwen/Qwen3-30B-A3B", "quantization": "fp8"},
            "E=128,N=768,device_name=NVIDIA_H200,dtype=fp8_w8a8.json",
            "--tp-size 1 --dtype fp8_w8a8",
        ),
        (
            "vllm",
            {
                "model": "Qwen/Qwen3-30B-A3B",
                "tensor_parallel_size": 2,
                "data_parallel_size": 2,
                "enable_expert_parallel": True,
            },
            "E=32,N=768,device_name=NVIDIA_H100_80GB_HBM3.json",
            "--tp-size 2 --data-parallel-size 2 --enable-expert-parallel",
        ),
        (
            "vllm",
            {
                "model": "Qwen/Qwen3-30B-A3B",
                "tensor_parallel_size": 2,
                "prefill_context_parallel_size": 2,
            },
            "E=128,N=192,device_name=NVIDIA_H200.json",
            "--tp-size 4",
        ),
        (
            "vllm",
            {
                "model": "deepseek-ai/DeepSeek-V3",
                "tensor_parallel_size": 8,
                "enable_expert_parallel": True,
                "eplb_config": "EPLBConfig(window_size=9, num_redundant_experts=8)",
            },
            "E=33,N=2048,device_name=NVIDIA_H200,dtype=fp8_w8a8,block_shape=[128,128].json",
            "--tp-size 8 --enable-expert-parallel --ep-num-redundant-experts 8",
        ),
        (
            "sglang",
            {"model_path": "deepseek-ai/DeepSeek-V3", "tp_size": 8, "quantization": None},
            "E=257,N=256,device_name=NVIDIA_H200,dtype=fp8_w8a8,block_shape=[128, 128].json",
            "--tp-size 8",
        ),
        (
            "sglang",
            {
                "model_path": "deepseek-ai/DeepSeek-V3",
                "tp_size": 16,
                "moe_dp_size": 2,
                "ep_size": 2,
                "disable_shared_experts_fusion": True,
            },
            "E=128,N=512,device_name=NVIDIA_H200,dtype=fp8_w8a8,block_shape=[128, 128]_down.json",
            "--tp-size 8 --ep-size 2 --disable-shared-experts-fusion",
        ),
    ],
)
def test_the_command_makes_the_file_of_that_name(
    doctor: Doctor, engine: str, args: dict[str, Any], name: str, flags: str
) -> None:
    lines = (
        [_args(**args), _worker(f"{MISSED}{VLLM_SHIPPED}/{name}")]
        if engine == "vllm"
        else [
            _server_args(**args),
            _scheduler(f"{SGLANG_MISSED}{SGLANG_SHIPPED}/triton_3_6_0/{name}, you can create …"),
        ]
    )
    _, data = doctor(*lines)
    [row] = data["servers"][0]["files"]
    model = args.get("model") or args.get("model_path")
    assert row["command"] == f"python -m autotune run --model {model} {flags} --engine {engine}"
    assert (row["makes"], row["note"]) == (name, None)


def test_the_forms_of_sglang(doctor: Doctor) -> None:
    up = "E=128,N=768,device_name=NVIDIA_H200.json"
    down = up.replace(".json", "_down.json")
    own, other = (f"{SGLANG_SHIPPED}/triton_3_{minor}_0" for minor in (6, 5))
    args = _server_args(model_path="Qwen/Qwen3-30B-A3B", tp_size=1)
    reuses = _scheduler(
        f"Down MoE config file not found at {own}/{down}; reusing the tuned up-projection config "
        "without TMA. Performance might be sub-optimal."
    )
    code, data = doctor(
        args,
        _scheduler(
            f"Config file not found at {own}/{up}. Fallback to triton version 3.5.0 and use MoE "
            f"kernel config from {other}/{up}. Performance might be sub-optimal!"
        ),
        reuses,
    )
    first, second = data["servers"][0]["files"]
    assert code == ExitCode.FAILED
    assert (first["state"], first["opened"]) == ("other_triton", f"{other}/{up}")
    assert (second["state"], second["missed"]) == ("up_file", [f"{own}/{down}"])
    run = "python -m autotune run --model Qwen/Qwen3-30B-A3B --tp-size 1"
    assert first["command"] == second["command"] == f"{run} --engine sglang"
    assert first["export"] == "export SGLANG_MOE_CONFIG_DIR=$PWD/configs/sglang"
    shown = doctor.text()
    assert shown.count(run) == 1
    assert f"{up} and {down}" in shown
    assert "server's Triton" in shown
    _, data = doctor(args, _scheduler(f"Using MoE kernel config from {own}/{up}."), reuses)
    second = data["servers"][0]["files"][1]
    assert second["command"] == f"{run} --kernel separate --engine sglang"


def test_without_the_model_a_placeholder_is_said(doctor: Doctor) -> None:
    _, data = doctor(_worker(f"{MISSED}{VLLM_SHIPPED}/{BF16}"))
    [server] = data["servers"]
    [row] = server["files"]
    assert (server["model"], row["makes"]) == (None, None)
    assert "--shape E=128,topk=TOPK,hidden=HIDDEN,intermediate=384 --dtype bf16" in row["command"]
    assert "no line of the log names the model; put in" in row["note"]
    blocks = BF16.replace(".json", ",dtype=fp8_w8a8,block_shape=[128,128].json")
    _, data = doctor(_worker(f"{MISSED}{VLLM_SHIPPED}/{blocks}"))
    assert "--model MODEL --tp-size TP" in data["servers"][0]["files"][0]["command"]
    _, data = doctor(
        _worker(f"{MISSED}{VLLM_SHIPPED}/{BF16}"), more=("--model", "Qwen/Qwen3-30B-A3B")
    )
    assert "Qwen3-30B-A3B would make E=128,N=768" in data["servers"][0]["files"][0]["note"]


def test_a_file_of_another_layer_is_said(doctor: Doctor) -> None:
    _, data = doctor(
        _args(model="Qwen/Qwen3-235B-A22B", tensor_parallel_size=2),
        _worker(f"{MISSED}{VLLM_SHIPPED}/{BF16}"),
    )
    [row] = data["servers"][0]["files"]
    assert "Qwen3-235B-A22B would make E=128,N=768," in row["note"]
    assert "--shape E=128,topk=8,hidden=4096,intermediate=384" in row["command"]
    assert row["makes"] == BF16


def test_a_share_of_experts_that_no_run_makes_is_a_shape(doctor: Doctor) -> None:
    _, data = doctor(
        _args(model="Qwen/Qwen3-30B-A3B", data_parallel_size=3, enable_expert_parallel=True),
        _worker("[EP Rank 0/3] Expert parallelism is enabled. Expert placement strategy: linear."),
        _worker(f"{MISSED}{VLLM_SHIPPED}/E=43,N=768,device_name=NVIDIA_H200.json"),
    )
    [row] = data["servers"][0]["files"]
    assert "--shape E=129,topk=8,hidden=2048,intermediate=768 --ep-size 3" in row["command"]
    assert "would make nothing: --ep-size 3 does not divide the experts" in row["note"]
    assert row["makes"] == row["file"]


def test_a_model_that_is_not_here_is_not_held_against_the_name(doctor: Doctor) -> None:
    _, data = doctor(
        _args(model="/models/mine", tensor_parallel_size=2),
        _worker(f"{MISSED}{VLLM_SHIPPED}/{BF16}"),
        _worker(f"{MISSED}{VLLM_SHIPPED}/{BF16.replace('384', '385')}"),
    )
    for row in data["servers"][0]["files"]:
        assert "--model /models/mine --tp-size 2" in row["command"]
        assert row["makes"] is None
        assert "there is no such folder" in row["note"]


@pytest.mark.parametrize(
    ("args", "line", "flag", "words"),
    [
        (
            {"model": "Qwen/Qwen3-30B-A3B"},
            "Using FlashInfer CUTLASS Unquantized MoE backend out of potential backends: [].",
            "--moe-backend triton",
            "serve with --moe-backend triton",
        ),
        (
            {"model": "deepseek-ai/DeepSeek-V3"},
            "Using DEEPGEMM Fp8 MoE backend out of potential backends: [].",
            "--moe-backend triton",
            "export VLLM_TUNED_CONFIG_FOLDER=$PWD/configs/vllm",
        ),
        (
            {"model": "/models/mine"},
            "Using 'MARLIN' WNA16 MoE backend.",
            None,
            "serve with Triton (docs/serving.md says how)",
        ),
        (
            {"model": "openai/gpt-oss-20b"},
            "Using 'MARLIN' Mxfp4 MoE backend.",
            "",
            "this package does not tune such layers",
        ),
    ],
)
def test_a_kernel_that_reads_no_files(
    doctor: Doctor, args: dict[str, Any], line: str, flag: str | None, words: str
) -> None:
    code, data = doctor(_args(**args), _worker(line))
    [kernel] = data["servers"][0]["kernels"]
    assert (code, kernel["reads_files"], kernel["flag"]) == (ExitCode.FAILED, False, flag)
    assert words in doctor.text()


BLOCKS = "E=16,N=1536,device_name=NVIDIA_H100_80GB_HBM3,dtype=fp8_w8a8,block_shape=[128,128].json"
EP = {
    "model": "Qwen/Qwen3-235B-A22B-FP8",
    "tensor_parallel_size": 8,
    "enable_expert_parallel": True,
}
FLAG = "serve with --moe-backend triton"
BOTH_WAYS = "measure the server both ways before you switch"


def test_where_no_line_names_the_kernel_our_rules_say_it(doctor: Doctor) -> None:
    missed = _worker(f"{MISSED}{VLLM_SHIPPED}/{BLOCKS}")
    _, data = doctor(_args(**EP), missed)
    rule = data["servers"][0]["by_rule"]
    assert (rule["kernel"], rule["flag"]) == ("FlashInfer CUTLASS", "--moe-backend triton")
    export, flag = doctor.text().splitlines()[-2:]
    assert export == "  export VLLM_TUNED_CONFIG_FOLDER=$PWD/configs/vllm"
    assert flag == f"  {FLAG}"
    assert doctor.text().count(BOTH_WAYS) == 1
    for args in (EP | {"moe_backend": "triton"}, EP | {"model": "/models/mine"}):
        _, data = doctor(_args(**args), missed)
        assert data["servers"][0]["by_rule"] is None
    _, data = doctor(_args(model="Qwen/Qwen3-30B-A3B"), _worker(f"{MISSED}{VLLM_SHIPPED}/{BF16}"))
    assert data["servers"][0]["by_rule"]["by_itself"] is True
    assert "serve with" not in doctor.text()


def test_a_kernel_and_a_missed_file_have_one_block(doctor: Doctor) -> None:
    doctor(
        _args(**EP),
        _worker("Using FLASHINFER_CUTLASS Fp8 MoE backend out of potential backends: []."),
        _worker(f"{MISSED}{VLLM_SHIPPED}/{BLOCKS}"),
    )
    lines = doctor.text().splitlines()
    at = lines.index("  export VLLM_TUNED_CONFIG_FOLDER=$PWD/configs/vllm")
    assert lines[at - 1].startswith("  python -m autotune run --model Qwen/Qwen3-235B-A22B-FP8")
    assert lines[at + 1] == f"  {FLAG}"
    assert BOTH_WAYS in lines[at + 2]
    assert doctor.text().count("autotune run") == 1


@pytest.mark.parametrize("columns", ["80", "200"])
def test_names_and_folders_stay_whole(
    doctor: Doctor, monkeypatch: pytest.MonkeyPatch, columns: str
) -> None:
    monkeypatch.setenv("COLUMNS", columns)
    monkeypatch.setenv("FORCE_COLOR", "1")  # a terminal, as far as rich can tell
    folder = f"/opt/vllm/lib/python3.12/site-packages{VLLM_SHIPPED}"
    processes = [_worker(f"{MISSED}{folder}/{BLOCKS}", rank) for rank in range(8)]
    doctor(_args(**EP), *processes)
    lines = doctor.text().splitlines()
    assert BLOCKS in lines
    assert f"  {folder}" in lines


def test_the_flag_is_that_of_the_checkpoint(tmp_path: Path, doctor: Doctor) -> None:
    fields = {
        "architectures": ["Qwen3MoeForCausalLM"],
        "num_experts": 128,
        "num_experts_per_tok": 8,
        "hidden_size": 2048,
        "moe_intermediate_size": 768,
        "quantization_config": {"quant_method": "awq", "bits": 4, "group_size": 128},
    }
    (tmp_path / "config.json").write_text(json.dumps(fields))
    opened = f"Using configuration from {VLLM_SHIPPED}/{BF16} for MoE layer."
    code, data = doctor(
        _args(model=str(tmp_path)), _worker("Using 'MARLIN' WNA16 MoE backend."), _worker(opened)
    )
    [server] = data["servers"]
    assert (code, server["all_opened"]) == (ExitCode.FAILED, False)
    assert server["kernels"][0]["flag"] == "--quantization moe_wna16"


def test_a_runner_of_sglang_that_reads_no_files(doctor: Doctor) -> None:
    args = {"model_path": "deepseek-ai/DeepSeek-V3", "tp_size": 8}
    code, data = doctor(_server_args(**args, moe_runner_backend="flashinfer_trtllm"))
    [kernel] = data["servers"][0]["kernels"]
    assert (code, kernel["flag"]) == (ExitCode.FAILED, "--moe-runner-backend triton")
    assert "SGLang took flashinfer_trtllm" in doctor.text()
    doctor(_server_args(**args, moe_runner_backend="marlin", quantization="modelopt_fp4"))
    assert "this package does not tune such layers" in doctor.text()
    _, data = doctor(_server_args(**args, moe_runner_backend="auto"))
    assert data["servers"][0]["kernels"] == []
    assert "no line says that a tuned file was looked for" in doctor.text()
    assert "autotune doctor --model deepseek-ai/DeepSeek-V3 --tp-size 8 --engine" in doctor.text()
    doctor(
        _server_args(**args),
        _scheduler("Deterministic inference is enabled, using default MoE kernel config."),
    )
    assert "deterministic inference is on" in doctor.text()


@pytest.mark.parametrize(
    ("log", "layers", "line", "opened"),
    [
        (
            "vllm_0_33_0_fp8.txt",
            "Fp8",
            13,
            "/opt/venv/lib/python3.12/site-packages/vllm/model_executor/layers/fused_moe/configs/"
            "E=128,N=768,device_name=NVIDIA_H200,dtype=fp8_w8a8,block_shape=[128,128].json",
        ),
        (
            "vllm_0_33_0_bf16_tuned.txt",
            "Unquantized",
            6,
            "/data/tuned/vllm/E=128,N=768,device_name=NVIDIA_H200.json",
        ),
    ],
)
def test_logs_of_real_servers(
    capsys: pytest.CaptureFixture[str], log: str, layers: str, line: int, opened: str
) -> None:
    """vLLM 0.33.0 on an H200, Qwen3-30B-A3B, by itself and with files of a run; shortened, and
    with other folders."""
    file = Path(__file__).parent / "server_logs" / log
    assert run_command_line(["doctor", "--server-log", str(file), "--json"]) == ExitCode.DONE
    data = json.loads(capsys.readouterr().out)
    [server] = data["servers"]
    assert (server["version"], server["split"]) == ("0.33.0", ["--tp-size", "1"])
    assert server["model"].startswith("/models/Qwen3-30B-A3B")
    [kernel], [row] = server["kernels"], server["files"]
    taken = (kernel["layers"], kernel["kernel"], kernel["line"])
    assert taken == (layers, "TRITON", line)
    assert (row["state"], row["opened"], row["processes"]) == ("opened", opened, ["EngineCore"])
    assert data["lines"] == file.read_bytes().count(b"\n")


def test_logs_that_say_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], doctor: Doctor
) -> None:
    code, data = doctor("hello", "W8A8 Block FP8")
    assert (code, data["servers"]) == (ExitCode.FAILED, [])
    assert "none of its 2 lines is vLLM's or SGLang's" in doctor.text()
    packed = tmp_path / "server.log.gz"
    packed.write_bytes(b"\x1f\x8b\x08\0")
    for name, words in (
        (str(packed), "is no text"),
        (str(tmp_path), "cannot be read"),
        (str(tmp_path / "none"), "cannot be read (No such file or directory)"),
    ):
        assert run_command_line(["doctor", "--server-log", name]) == ExitCode.USAGE
        assert words in " ".join(capsys.readouterr().err.split())
    assert run_command_line(["doctor", "--server-log", "x", "--shape", "E=1"]) == ExitCode.USAGE
    (tmp_path / "empty").touch()
    assert run_command_line(["doctor", "--server-log", str(tmp_path / "empty")]) == ExitCode.FAILED


def test_standard_input_is_read(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    raw = _worker(f"Using configuration from /x/{BF16} for MoE layer.").encode()
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(raw)))
    assert run_command_line(["doctor", "--server-log", "-"]) == ExitCode.DONE
    assert BF16 in capsys.readouterr().out
