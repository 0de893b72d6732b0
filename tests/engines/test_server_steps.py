"""Steps of servers, from logs in the engines' own words, and from steps.csv."""

from __future__ import annotations

import ast
from collections.abc import Callable
from pathlib import Path

import pytest

from autotune.engines.server_steps import Steps, read_steps
from autotune.errors import UsageError

VLLM = "(APIServer pid=7) INFO 11-30 01:15:25 [loggers.py:199] "
SGLANG = "[2026-11-30 01:15:25 TP0] "
ARGUMENTS = "server_args={'decode_log_interval': 10, 'speculative_num_draft_tokens': 4}"
GRAPHS = "Capture target decode CUDA graph end. bs=[1, 2, 4, 8], elapsed=3.10 s"


def _steps(path: Path, *lines: str, start: str = "") -> Steps:
    path.write_text("".join(f"{start}{line}\n" for line in lines))
    return read_steps(path)


def _iteration(context: int, generation: int, ms: float, more: str = "") -> str:
    return (
        f"Engine 000: Iteration(7): 1 context requests, {context} context tokens, 2 generation "
        f"requests, {generation} generation tokens, iteration elapsed time: {ms:.2f} ms{more}, "
        "GPU KV cache usage: 1.2%"
    )


def _prefill(tokens: int, seconds: float, more: str = "") -> str:
    return (
        f"Prefill batch, #new-seq: 1, #new-token: {tokens}, #cached-token: 9, token usage: 0.00, "
        f"#running-req: 3, #queue-req: 0, #pending-token: 0, {more}cuda graph: False, "
        f"input throughput (token/s): {tokens / seconds:.2f}"
    )


def _decode(requests: int, rate: float, more: str = "", graph: str = "True") -> str:
    return (
        f"Decode batch, #running-req: {requests}, #full token: 9, token usage: 0.00, {more}"
        f"cuda graph: {graph}, gen throughput (token/s): {rate:.2f}, #queue-req: 0"
    )


def test_a_table(tmp_path: Path) -> None:
    """Two captures, one after the other; the second server was killed while it wrote."""
    path = tmp_path / "steps.csv"
    path.write_text("tokens,seconds\n64,0.5\n8,0.25\n\ntokens,seconds\n64,0.25\n12")
    steps = read_steps(path)
    assert steps.seconds == {64: 0.75, 8: 0.25}
    assert (steps.count, steps.source) == (3, "the plugin")


@pytest.mark.parametrize("line", ["64;0.5", "0,1", "64,-1", "64,nan", "64,inf", "64", "300000,1"])
def test_a_bad_line_of_a_table_is_named(tmp_path: Path, line: str) -> None:
    with pytest.raises(UsageError, match=r"line 3: .* each line is tokens,seconds, as 64,0.0123"):
        _steps(tmp_path / "steps.csv", "tokens,seconds", "64,0.5", line, "64,0.5")


def test_vllm_s_lines(tmp_path: Path) -> None:
    steps = _steps(
        tmp_path / "log",
        _iteration(100, 3, 20.0),
        _iteration(0, 5, 6.0),
        _iteration(0, 5, 6000.0),  # as long as it says: it was not idle
        _iteration(0, 0, 9.0, " (dummy)"),
        "Avg prompt throughput: 1.0 tokens/s, Running: 5 reqs",
        start=VLLM,
    )
    assert steps.seconds == pytest.approx({103: 0.02, 5: 6.006})
    assert (steps.count, steps.source) == (3, "vLLM's log")


def test_vllm_s_padding(tmp_path: Path) -> None:
    config = "'cudagraph_mode': <CUDAGraphMode.{}: (2, 0)>, 'cudagraph_capture_sizes': [1, 2, 4, 8]"
    lines = (_iteration(9, 0, 5.0), _iteration(0, 5, 6.0), _iteration(2, 1, 5.0))
    everything = config.format("FULL_AND_PIECEWISE")
    assert list(_steps(tmp_path / "log", everything, *lines).seconds) == [9, 8, 4]
    decode_only = config.format("FULL_DECODE_ONLY")
    assert list(_steps(tmp_path / "log", decode_only, *lines).seconds) == [9, 8, 3]


def test_sglang_s_lines(tmp_path: Path) -> None:
    """Forty decode steps have a line; what was idle does not count."""
    steps = _steps(
        tmp_path / "log",
        _prefill(1000, 600.0),  # since the server started
        _prefill(1000, 0.05),
        _prefill(1000, 0.05),
        _decode(5, 500.0, graph="False"),
        start=SGLANG,
    )
    assert steps.seconds == pytest.approx({1000: 0.15, 5: 40 * 0.01}, rel=1e-3)
    assert (steps.count, steps.source) == (43, "SGLang's log")


def test_sglang_s_padding_and_interval(tmp_path: Path) -> None:
    lines = (ARGUMENTS, GRAPHS, _decode(5, 500.0))
    assert _steps(tmp_path / "log", *lines).seconds == pytest.approx({8: 10 * 0.01})


def test_sglang_s_drafts(tmp_path: Path) -> None:
    """Each request has 4 tokens to verify, of which 2.5 are kept: 200 steps a second."""
    line = _decode(8, 8 * 2.5 * 200, "accept len: 2.50, accept rate: 0.50, ")
    assert _steps(tmp_path / "log", ARGUMENTS, line).seconds == pytest.approx({32: 10 / 200})
    with pytest.raises(UsageError, match="Give the log from the server's start"):
        _steps(tmp_path / "log", line)


@pytest.mark.parametrize("number", ["1.2.3", ".", "9" * 400])
def test_odd_numbers_of_a_log_do_not_stop_the_others(tmp_path: Path, number: str) -> None:
    lines = [
        f"'cudagraph_capture_sizes': [{number}, 1 2]",
        _iteration(0, 1, 5).replace("5.00 ms", f"{number} ms"),
        _iteration(0, 1, 5).replace(" 1 generation tokens", f" {number} generation tokens"),
        f"server_args={{'decode_log_interval': {number}}}",
        _prefill(7, 0.5).replace("#new-token: 7", f"#new-token: {number}"),
        _decode(3, 30).replace("(token/s): 30.00", f"(token/s): {number}"),
    ]
    assert 64 in _steps(tmp_path / "log", *lines, _iteration(0, 64, 5)).seconds


def test_nothing_of_steps(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="--enable-logging-iteration-details"):
        _steps(tmp_path / "log", "INFO all is well")
    with pytest.raises(UsageError, match="has no step that took time"):
        _steps(tmp_path / "steps.csv", "tokens,seconds", "64,0")
    (tmp_path / "log").write_bytes(b"\x1f\x8b\x08\x00")
    with pytest.raises(UsageError, match="is no text"):
        read_steps(tmp_path / "log")
    with pytest.raises(UsageError, match="cannot be read: No such file"):
        read_steps(tmp_path / "none")


def test_vllm_s_own_format(engine_package: Callable[[str], Path], tmp_path: Path) -> None:
    """The line as vLLM's own format makes it, with numbers in the order of its arguments."""
    tree = ast.parse((engine_package("vllm") / "vllm/v1/metrics/loggers.py").read_text())
    [form] = [
        node.value
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant) and "%sIteration(%d)" in str(node.value)
    ]
    line = str(form) % ("Engine 000: ", 1, 2, 30, 4, 5, 6.5, "", "GPU", 7.0, "")
    assert _steps(tmp_path / "log", line, start=VLLM).seconds == {35: 0.0065}
    dummy = str(form) % ("Engine 000: ", 1, 0, 0, 0, 5, 6.5, " (dummy)", "GPU", 7.0, "")
    assert _steps(tmp_path / "log", line, dummy).count == 1


def test_sglang_s_own_fields(engine_package: Callable[[str], Path]) -> None:
    folder = engine_package("sglang") / "sglang/srt"
    reporter = (folder / "managers/scheduler_components/metrics_reporter.py").read_text()
    for text in (
        'f"Prefill batch{iter_msg}, "',
        'f"#new-token: {prefill_stats.log_input_tokens}, "',
        'f"#replay-token: {prefill_stats.log_replay_tokens}, "',
        'f"input throughput (token/s): {self.last_input_throughput:.2f}"',
        'f"Decode batch{iter_msg}, #running-req: {num_running_reqs}, {token_usage_msg}"',
        'f"accept len: {spec_accept_length:.2f}, accept rate: ',
        'f"gen throughput (token/s): {self.last_gen_throughput:.2f}, "',
        "self.forward_ct_decode % self.decode_log_interval != 0",
    ):
        assert text in reporter
    setup = folder / "model_executor/model_runner_components/cuda_graph_setup.py"
    assert 'f"bs={runner.capture_bs}, "' in setup.read_text()
    assert (
        'f"server_args={_server_args_for_logging' in (folder / "entrypoints/engine.py").read_text()
    )
    options = (folder / "arg_groups/fields/observability.py").read_text()
    assert "] = 40" in options.partition("decode_log_interval: A[")[2][:200]
