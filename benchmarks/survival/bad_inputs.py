"""Reads thousands of files and flags that nobody meant: does each end in a sentence?

    python benchmarks/survival/bad_inputs.py [--examples 10000] [--only NAME …]

A corpus says what is drawn and how it is used, as a command uses it. An example passes where it is
read, or refused with an AutotuneError (flags: with argparse's own words); any other exception is a
traceback, and Hypothesis prints the smallest example that has it. Prints a line for each corpus;
exits with 1 where there was a traceback.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import logging
import os
import sys
import tempfile
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
import torch
from bad_storages import ENGINE_FILES, STORAGES, use_engine_file, use_storage
from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy
from safetensors.numpy import save

from autotune.backends.replay.measurer import ReplayMeasurer
from autotune.backends.replay.recording_format import Recording, read_recording, write_recording
from autotune.cli import run_command_line
from autotune.commands.command_line import parsed
from autotune.commands.flags import run_settings
from autotune.commands.output import Output
from autotune.commands.registry import COMMANDS
from autotune.commands.routing_stats import _sizes
from autotune.engines import ENGINES
from autotune.errors import AutotuneError
from autotune.models.load import load_shape
from autotune.report.routing_stats import routing_stats
from autotune.routing.trace_files import read_trace
from autotune.settings import ModelSettings
from autotune.spec.config import Config
from autotune.spec.device import Device, DeviceKind, Target
from autotune.spec.measurement import Measurement, Resources
from autotune.spec.problem import Problem
from autotune.studies.key import StudyKey
from autotune.studies.outcome import Outcome, TrialResult
from autotune.tuning.jobs import jobs_of, model_shape

READ, REFUSED = "read", "refused in words"
_GPU = Device(DeviceKind.CUDA, "NVIDIA H200", Target("cuda", 90), 232_448, "3.9.0")

_MODELS = resources.files("autotune.models") / "catalogue" / "models.jsonl"
_PUBLISHED = [json.loads(line)["config"] for line in _MODELS.read_text("utf-8").splitlines()]

_NUMBERS = st.sampled_from(
    [0, 1, -1, 2, 3, 7, 8, 128, 2**15, 2**16, 2**31, 2**32, 2**40, 2**63, 10**30, -(10**30), 10**9]
)
_REALS = st.sampled_from([0.0, -0.0, 0.5, -1.0, 1e-300, 1e300, float("nan"), float("inf")])
_TEXTS = st.sampled_from(
    ["", "0", "8", "1e9", "x", "±∞", "a/b", "[", "re:(", "*", "²", "re:a{99999999999}", "\ud800"]
)
_LEAVES = st.none() | st.booleans() | _NUMBERS | _REALS | _TEXTS | st.integers() | st.floats()
_JSON = st.recursive(
    _LEAVES,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_TEXTS, inner, max_size=3),
    max_leaves=6,
)


@dataclass(frozen=True, slots=True)
class Corpus:
    """A kind of input: what is drawn of it, and its use in a folder, which says how it ended."""

    name: str
    drawn: SearchStrategy[Any]
    use: Callable[[Any, Path], None]


def count(corpus: Corpus, examples: int, seed_number: int | None = None) -> Counter[str]:
    """Return how many examples ended how; each seed draws others. Raises what an example raised
    that is no refusal."""
    ends: Counter[str] = Counter()

    @settings(
        max_examples=examples,
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
        derandomize=seed_number is None,
    )
    @given(corpus.drawn)
    def use(example: Any) -> None:
        with tempfile.TemporaryDirectory() as folder, _quiet():
            try:
                corpus.use(example, Path(folder))
                ends[READ] += 1
            except AutotuneError:
                ends[REFUSED] += 1

    if seed_number is not None:
        use = seed(seed_number)(use)
    use()
    return ends


@contextlib.contextmanager
def _quiet() -> Any:
    """Keep what is logged, printed and warned of an example from the screen."""
    log = logging.getLogger("autotune")
    before, log.level = log.level, logging.CRITICAL
    with (
        contextlib.redirect_stderr(io.StringIO()),
        contextlib.redirect_stdout(io.StringIO()),
        warnings.catch_warnings(),
    ):
        warnings.simplefilter("ignore")
        yield
    log.level = before


# --- config.json ---------------------------------------------------------------------------------


_FIELDS = (
    "auto_map", "mlp_only_layers", "moe_layers", "moe_layer_freq", "mlp_layer_types", "n_group",
    "topk_group", "n_shared_experts", "shared_expert_intermediate_size", "first_k_dense_replace",
    "decoder_sparse_step", "expert_layer_period", "interleave_moe_layer_step", "block_configs",
    "layers_block_type", "torch_dtype", "architectures", "text_config", "num_hidden_layers",
)  # fmt: skip
_METHODS = (
    "fp8", "fbgemm_fp8", "w8a8_int8", "modelopt", "mxfp4", "awq", "gptq", "auto-round",
    "compressed-tensors", "bitsandbytes",
)  # fmt: skip


@st.composite
def _quantizations(draw: st.DrawFn) -> dict[str, Any]:
    """A quantization_config, every value of which is good or drawn."""

    def either(good: Any) -> Any:
        pair = st.lists(_LEAVES, min_size=2, max_size=2)
        return draw(_JSON | pair) if draw(st.integers(0, 3)) == 0 else good

    weights = {
        "num_bits": either(8), "type": either("float"), "strategy": either("block"),
        "block_structure": either([128, 128]), "group_size": either(128),
    }  # fmt: skip
    group = {"targets": either(["Linear"]), "weights": either(weights)}
    layer = {"quant_algo": "FP8_PB_WO", "group_size": either(128)}
    return {
        "quant_method": either(draw(st.sampled_from(_METHODS))),
        "weight_block_size": either([128, 128]),
        "bits": either(4),
        "group_size": either(128),
        "ignore": either(["lm_head", "re:.*gate"]),
        "dynamic": either({}),
        "quant_algo": either("MIXED_PRECISION"),
        "quantized_layers": either({"model.layers.3.mlp.experts": either(layer)}),
        "config_groups": either({"group_0": either(group)}),
    }


@st.composite
def _config_texts(draw: st.DrawFn) -> bytes:
    """A published config.json with some of its fields otherwise, in one of many ways."""
    published = draw(st.sampled_from(_PUBLISHED))
    config = json.loads(json.dumps(published))
    for _ in range(draw(st.integers(0, 4))):
        part = config
        while True:
            key = draw(st.sampled_from(sorted(part)))
            if not isinstance(part[key], dict) or not part[key] or draw(st.booleans()):
                break
            part = part[key]
        change = draw(st.integers(0, 4))
        if change == 0:
            del part[key]
        elif change == 1:
            part[key] = [part[key]] * draw(st.integers(0, 3))
        else:
            part[key] = draw(_JSON)
        if not part:
            break
    if draw(st.booleans()):
        config[draw(st.sampled_from(_FIELDS))] = draw(_JSON)
    if draw(st.booleans()):
        config["quantization_config"] = draw(_quantizations())
    if draw(st.integers(0, 30)) == 0:
        depth = draw(st.sampled_from([10, 60, 900, 5000]))
        return b'{"text_config":' * depth + json.dumps(config).encode() + b"}" * depth
    text = json.dumps(config).encode("utf-8", "surrogatepass")
    if draw(st.integers(0, 10)) == 0:
        at = draw(st.integers(0, len(text)))
        return text[:at] + draw(st.binary(max_size=4)) + text[at + draw(st.integers(0, 9)) :]
    return text


def _use_config(text: bytes, folder: Path) -> None:
    (folder / "config.json").write_bytes(text)
    shape = load_shape(str(folder))
    for tp_size, ep_size in ((1, 1), (2, 1), (2, 2)):
        wanted = ModelSettings(
            model="m", tp_size=tp_size, ep_size=ep_size, ep_rank=0, batch_sizes=(1, 64)
        )
        with contextlib.suppress(AutotuneError):
            for job in jobs_of(shape, wanted, tuple(ENGINES)):
                assert job.problem.name
                for engine in job.engines:
                    engine.path(folder, job.problem, _GPU)
                job.incumbents(_GPU, folder)


# --- recordings of routing -----------------------------------------------------------------------

_TENSOR_KINDS = ("plain", "expanded", "sparse", "meta", "dict", "requires grad", "strided")
_GOOD_TABLE = torch.tensor([[0, 1], [3, 2], [5, 7]], dtype=torch.int32)
_DTYPES = (torch.int32, torch.int64, torch.int8, torch.uint8, torch.float32, torch.bool)


@st.composite
def _tables(draw: st.DrawFn) -> torch.Tensor:
    shape = draw(st.lists(st.integers(0, 9), max_size=3) | st.just([8, 2]))
    dtype = draw(st.sampled_from(_DTYPES))
    kind = draw(st.integers(0, 3))
    if kind == 0 and len(shape) == 2:
        rows = [draw(st.permutations(range(max(shape[1], 4))))[: shape[1]] for _ in range(shape[0])]
        return torch.tensor(rows, dtype=torch.int32).reshape(shape)
    values = draw(st.sampled_from([0, 1, -1, 7, 2**31 - 1, 2**40, -(2**63)]))
    table = torch.zeros(shape, dtype=torch.int64)
    if kind > 1 and table.ndim:
        table += torch.arange(table.shape[-1])
    return (table + values).to(dtype)


@st.composite
def _routing_files(draw: st.DrawFn) -> dict[str, bytes]:
    """A folder of a few files, each good or of one fault."""
    files = {}
    for _ in range(draw(st.integers(1, 3))):
        layer = draw(st.sampled_from(["0", "1", "7", "0", "1", "7", "10000", "9" * 30, "²"]))
        table = _GOOD_TABLE if draw(st.booleans()) else draw(_tables())
        if draw(st.booleans()):
            name = f"topk_ids_layer{layer}_idx{draw(st.sampled_from(['0', '1', '9' * 20]))}.pt"
            kind = draw(st.sampled_from(_TENSOR_KINDS)) if draw(st.booleans()) else "plain"
            content = _torch_bytes(table, kind)
        else:
            name, content = "routing.safetensors", draw(_compact_bytes(layer, table))
        is_damaged = draw(st.integers(0, 9)) == 0
        files[name] = draw(_damaged(content)) if is_damaged else content
    return files


def _torch_bytes(table: torch.Tensor, kind: str) -> bytes:
    saved: Any = table
    if kind == "expanded":
        saved = table.flatten()[:1].expand(2**30, 1) if table.numel() else table
    elif kind == "sparse":
        saved = table.to_sparse() if table.ndim else table
    elif kind == "meta":
        saved = table.to("meta")
    elif kind == "dict":
        saved = {"ids": table}
    elif kind == "requires grad" and table.is_floating_point():
        saved = table.requires_grad_()
    elif kind == "strided" and table.ndim == 2:
        saved = table.t()
    buffer = io.BytesIO()
    torch.save(saved, buffer)
    return buffer.getvalue()


@st.composite
def _compact_bytes(draw: st.DrawFn, layer: str, table: torch.Tensor) -> bytes:
    layer = layer.replace("²", "2")
    rows = table.shape[0] if table.ndim else 1
    dtype = draw(st.sampled_from([np.int32, np.int64, np.uint64, np.float32, np.float64]))
    sequences = np.full(rows + draw(st.sampled_from([0, 0, 0, 1])), draw(st.integers(0, 3)), dtype)
    tensors = {f"layer{layer}.topk_ids": table.numpy(), f"layer{layer}.sequences": sequences}
    notes = draw(st.dictionaries(st.sampled_from(["experts", "top_k", "model"]), _TEXTS))
    notes = {key: value for key, value in notes.items() if value != "\ud800"}
    return save({name: np.ascontiguousarray(t) for name, t in tensors.items()}, notes)


@st.composite
def _damaged(draw: st.DrawFn, content: bytes) -> bytes:
    at = draw(st.integers(0, len(content)))
    more = draw(st.binary(max_size=8))
    return content[:at] + more + content[at + draw(st.sampled_from([0, 1, len(more), 10**6])) :]


def _use_routing(files: Mapping[str, bytes], folder: Path) -> None:
    for name, content in files.items():
        (folder / name).write_bytes(content)
    recording = read_trace(folder)
    experts, top_k = _sizes(None, None, recording, Output(quiet=True))
    routing_stats(recording, experts, top_k, 1, [1, 300])


# --- recordings of times -------------------------------------------------------------------------


def _recording() -> dict[str, np.ndarray[Any, Any]]:
    """The arrays of a small good recording."""
    problem = Problem(experts=8, top_k=2, hidden=512, intermediate=256, tokens=1)
    ok = TrialResult(
        Outcome.OK,
        Measurement.of_columns([[10.0, 11.0, 12.0]], "how"),
        resources=Resources(9, 0, 99),
    )
    bad = TrialResult(Outcome.COMPILE_ERROR, reason="why")
    results = {Config(16, 32, 64, 1): ok, Config(16, 64, 64, 1): ok, Config(32, 32, 64, 8): bad}
    key = StudyKey(problem, _GPU, "f")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "r.npz"
        write_recording(path, Recording({key: results}, {}, {"triton": "3.9.0"}))
        with np.load(path, allow_pickle=False) as file:
            return {name: file[name] for name in file.files}


_GOOD = _recording()


@st.composite
def _recording_files(draw: st.DrawFn) -> bytes:
    arrays: dict[str, Any] = dict(_GOOD)
    for _ in range(draw(st.integers(0, 3))):
        name = draw(st.sampled_from(sorted(_GOOD)))
        change = draw(st.integers(0, 5))
        if change == 0:
            arrays.pop(name, None)
        elif name == "meta":
            meta = json.loads(str(_GOOD["meta"]))
            part = meta
            while True:
                key = draw(st.sampled_from(sorted(part)))
                if isinstance(part[key], list) and part[key] and isinstance(part[key][0], dict):
                    part = part[key][0]
                elif isinstance(part[key], dict) and part[key] and draw(st.booleans()):
                    part = part[key]
                else:
                    break
            part[key] = draw(_JSON)
            arrays[name] = np.array(json.dumps(meta))
        elif change == 1:
            arrays[name] = _GOOD[name].reshape(-1)
        elif change == 2:
            arrays[name] = _cast(_GOOD[name], draw(st.sampled_from(["f4", "i8", "U5", "?", "c8"])))
        elif change == 3:
            arrays[name] = _GOOD[name][: draw(st.integers(0, 2))]
        else:
            array = np.array(_GOOD[name], dtype="f8")
            array[...] = draw(_REALS | st.floats(width=32) | st.integers(-3, 70000).map(float))
            kind = _GOOD[name].dtype if draw(st.booleans()) else array.dtype
            arrays[name] = _cast(array, kind)
    buffer = io.BytesIO()
    np.savez_compressed(buffer, allow_pickle=True, **arrays)
    content = buffer.getvalue()
    return draw(_damaged(content)) if draw(st.integers(0, 5)) == 0 else content


def _cast(array: np.ndarray[Any, Any], kind: Any) -> np.ndarray[Any, Any]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return array.astype(kind)


def _use_recording(content: bytes, folder: Path) -> None:
    path = folder / "r.npz"
    path.write_bytes(content)
    measurer = ReplayMeasurer(path, seed=1)
    for key in read_recording(path).studies:
        problem = key.problem
        for config in measurer.space(problem).configs:
            result = measurer.measure(problem, config)
            if result.measurement is not None:
                assert result.measurement.geomean_us > 0
                json.dumps(result.measurement.geomean_us, allow_nan=False)


# --- flags ---------------------------------------------------------------------------------------

_WORDS = st.sampled_from(
    ["0", "1", "-1", "4294967296", "1e400", "nan", "inf", "-inf", "9" * 30, "x", "", "0,1", "²"]
    + [
        "zipf:1",
        "zipf:-1",
        "zipf:nan",
        "zipf:1e308",
        "dirichlet:0",
        "grouped:0:0",
        "grouped:1e300:1",
    ]
    + ["E=8,topk=2,hidden=512,intermediate=256", "E=8,topk=9,hidden=512,intermediate=256", "a=b"]
    + [f"E={many},topk=2,hidden=512,intermediate=256" for many in ("²", "9" * 5000, "0")]
    + ["estimate:NVIDIA_H200", "estimate:", "estimate:x", "replay:", "replay:/nowhere", "cuda:0"]
    + ["cuda:99999999999999999999", "cuda:²", "cpu", "both", "vllm", "fused", "separate", "auto"]
    + ["/nowhere", "~nobody/x", "sqlite:///", "journal:"]
)
_WHOLES = ("0", "1", "2", "-1", "3", "8", "1000", "4294967296", "9" * 30, "1e3", "²")
_FRACTIONS = ("0", "-1", "nan", "inf", "1e400", "1e300", "0.5", "60", "1e-9")
_NUMBER_FLAGS = {
    "--tp-size": _WHOLES, "--ep-size": _WHOLES, "--data-parallel-size": _WHOLES,
    "--ep-num-redundant-experts": _WHOLES, "--ep-rank": _WHOLES, "--batch-size": _WHOLES,
    "--trials": _WHOLES, "--seed": _WHOLES, "--gpus": _WHOLES, "--workers": _WHOLES,
    "--compile-jobs": _WHOLES, "--limit": _WHOLES, "--port": _WHOLES, "--tokens": _WHOLES,
    "--fused-shared-experts": _WHOLES, "--configs": _WHOLES, "--timeout": _FRACTIONS,
    "--run-timeout": _FRACTIONS, "--stop-gain": _FRACTIONS, "--compile-timeout": _FRACTIONS,
    "--give-up-at": _FRACTIONS, "--watch": _FRACTIONS,
}  # fmt: skip
_OTHER_FLAGS = (
    "--shape", "--model", "--routing", "--dtype", "--device", "--engine", "--kernel", "--robust",
    "--provider", "--sampler", "--triton-version", "--from", "--to", "--storage",
)  # fmt: skip
_PATH_FLAGS = (
    "--topk-ids-dir", "--warm-start", "--output-dir", "--cache-dir", "--plot", "--prompts",
    "--config-file", "--output", "--like", "--save-path",
)  # fmt: skip
_PATHS = st.sampled_from(["", ".", "x", "/nowhere", "/dev/null", "/dev/null/x", "a/../b", "\udcff"])
_BARE_FLAGS = (
    "--enable-expert-parallel", "--per-channel-quant", "--disable-shared-experts-fusion",
    "--quiet", "--json", "--verbose",
)  # fmt: skip
_PLAIN = ["--shape", "E=8,topk=2,hidden=512,intermediate=256", "--device", "estimate:NVIDIA_H200"]


@st.composite
def _flags(draw: st.DrawFn) -> list[str]:
    """A command with flags of any command and values of any flag; mostly those that fit."""
    name = draw(st.sampled_from(["run"] * 9 + [command.name for command in COMMANDS]))
    words = name.split()
    if name in _SETTINGS_ONLY and draw(st.integers(0, 5)):
        words += _PLAIN
    if name in ("check", "routing-stats", "convert"):
        words.append(draw(_PATHS))
    for _ in range(draw(st.integers(0, 2))):
        kind = draw(st.integers(0, 5))
        if kind < 3:
            flag = draw(st.sampled_from(sorted(_NUMBER_FLAGS)))
            words += [flag, draw(st.sampled_from(_NUMBER_FLAGS[flag]))]
        elif kind == 3:
            words.append(draw(st.sampled_from(_BARE_FLAGS)))
        elif kind == 4:
            words += [draw(st.sampled_from(_PATH_FLAGS)), draw(_PATHS)]
        else:
            words.append(draw(st.sampled_from(_OTHER_FLAGS)))
            words += draw(st.lists(_WORDS, max_size=2))
    return words


_SETTINGS_ONLY = {"run", "bench", "record", "compare"}
"""Commands whose work takes long: their flags are read and made settings, and jobs of ``run``."""
_NEVER = {"capture-routing", "doctor", "models", "dashboard"}
"""Commands whose flags are parsed alone: they load models, look at GPUs, or serve."""


def _use_flags(words: list[str], folder: Path) -> None:
    here = Path.cwd()
    os.chdir(folder)
    try:
        call = parsed(words)
        if isinstance(call, int):
            return
        name = call.command.name
        if name in _SETTINGS_ONLY:
            if name == "run":
                made = run_settings(call.flags)
                for model in made.models:
                    if model.shape is not None:
                        jobs_of(model_shape(model), model, made.engines, made.kernel)
        elif name not in _NEVER and getattr(call.flags, "watch", None) is None:
            run_command_line(words)
    finally:
        os.chdir(here)


CORPORA = (
    Corpus("config.json", _config_texts(), _use_config),
    Corpus("top-k files", _routing_files(), _use_routing),
    Corpus("recordings", _recording_files(), _use_recording),
    Corpus("flags", _flags(), _use_flags),
    Corpus("storages", STORAGES, use_storage),
    Corpus("engine files", ENGINE_FILES, use_engine_file),
)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--examples", type=int, default=10_000)
    parser.add_argument("--only", nargs="+", default=[corpus.name for corpus in CORPORA])
    parser.add_argument("--seed", type=int, help="each draws other examples, the same each time")
    flags = parser.parse_args()
    failed = False
    for corpus in CORPORA:
        if corpus.name not in flags.only:
            continue
        began = time.monotonic()
        try:
            ends = count(corpus, flags.examples, flags.seed)
        except Exception:  # noqa: BLE001  whatever is no refusal is what is looked for
            print(
                "".join(
                    line[:200].rstrip() + "\n"
                    for line in traceback.format_exc().splitlines(keepends=True)
                )
            )
            ends, failed = Counter({"TRACEBACK": 1}), True
        words = ", ".join(f"{number} {how}" for how, number in ends.items())
        print(f"{corpus.name}: {words}; {time.monotonic() - began:.0f} s", flush=True)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
