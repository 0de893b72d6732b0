"""What the log of a vLLM or SGLang server says of its MoE layers: how the model is served, which
kernels were taken, which tuned files were opened and which were missed.

The texts are those of vLLM 0.33.0 (model_executor/layers/fused_moe/fused_moe.py:1152 and its
``oracle`` folder) and SGLang 0.5.23 (srt/layers/moe/moe_runner/triton_utils/
fused_moe_triton_config.py). The engines' texts about files of other kernels, as "W8A8 Block FP8",
are similar and are no concern of this.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from autotune.engines.server_log import LogLine


class FileState(StrEnum):
    """What an engine did about a file that it looked for."""

    OPENED = "opened"
    OTHER_TRITON = "other_triton"
    """SGLang: missed, and the file of another Triton version was opened in its place."""
    UP_FILE = "up_file"
    """SGLang: there is no down file; the down GEMM has the up file's configs, without TMA."""
    MISSED = "missed"
    """The engine launches its own default."""


@dataclass(frozen=True, slots=True)
class Lookup:
    """One file that an engine looked for."""

    engine: str
    state: FileState
    name: str
    """The file's name without folders."""
    missed: tuple[str, ...] = ()
    """The paths where it was not, in the engine's order."""
    opened: str | None = None
    """The path of the file that was opened."""


@dataclass(frozen=True, slots=True)
class Backend:
    """A kernel that vLLM took for layers of experts."""

    layers: str
    """vLLM's word for the kind of weights, as ``Fp8``."""
    name: str

    @property
    def reads_files(self) -> bool:
        """True for Triton's kernels whose configs come from tuned files."""
        return self.layers in _TUNED and self.name in ("TRITON", "BATCHED_TRITON")

    @property
    def is_tuned_here(self) -> bool:
        """False for layers that Triton's tuned kernel has no path for, as those of mxfp4."""
        return self.layers in _TUNED


_TUNED = ("Unquantized", "Fp8", "Int8", "WNA16")


@dataclass(slots=True)
class Seen:
    """The lines that say the same."""

    line: int
    """The number of the first."""
    processes: list[str] = field(default_factory=list)

    def add(self, line: LogLine) -> None:
        """Remember the process of another such line."""
        if line.process and line.process not in self.processes:
            self.processes.append(line.process)


@dataclass(slots=True)
class Server:
    """One start of a server, of which a log may hold several."""

    engine: str
    line: int
    """The number of its first line that says something."""
    args: dict[str, str] = field(default_factory=dict)
    """Arguments by the engine's names, as texts; only those that ``WANTED`` has."""
    version: str = ""
    lookups: dict[Lookup, Seen] = field(default_factory=dict)
    backends: dict[Backend, Seen] = field(default_factory=dict)
    fixed: Seen | None = None
    """SGLang's deterministic mode, in which no file is opened."""
    sources: set[str] = field(default_factory=set)

    @property
    def has_started(self) -> bool:
        """True where layers were made or run."""
        return bool(self.lookups or self.backends or self.fixed)

    def number(self, name: str, default: int = 1) -> int:
        """Return an argument that is a whole number; the default where there is none."""
        text = self.args.get(name, "")
        return int(text) if re.fullmatch("[0-9]{1,6}", text) else default

    def is_on(self, name: str) -> bool:
        """True where an argument is set."""
        return self.args.get(name) == "True"


WANTED: Mapping[str, frozenset[str]] = {
    "vllm": frozenset(
        {
            "model",
            "tensor_parallel_size",
            "data_parallel_size",
            "prefill_context_parallel_size",
            "enable_expert_parallel",
            "eplb_config",
            "quantization",
            "moe_backend",
        }
    ),
    "sglang": frozenset(
        {
            "model_path",
            "tp_size",
            "ep_size",
            "moe_dp_size",
            "quantization",
            "moe_runner_backend",
            "moe_a2a_backend",
            "ep_num_redundant_experts",
            "disable_shared_experts_fusion",
            "enable_deterministic_inference",
        }
    ),
}

_LONGEST = 8192
"""Characters of a line about a file; two paths are up to 4096 each."""
_TELLING = ("model", "tensor_parallel_size", "data_parallel_size", "model_path", "tp_size")
"""Arguments in which two servers differ. vLLM prints others twice, in different words."""
_NAME = r"E=[0-9]{1,9},N=[0-9]{1,9},device_name=.{0,300}?\.json"
_PATH = re.compile(rf"(?P<folder>[^\n]*?)(?P<name>{_NAME})")
_FOUND = re.compile(
    rf"Using (?:configuration from (?P<vllm>.*{_NAME}) for MoE layer\."
    rf"|MoE kernel config from (?P<sglang>.*{_NAME})\.)"
)
_MISSED = re.compile(
    r"Using default MoE (?P<kernel>kernel )?config\. Performance might be sub-optimal! "
    r"Config file not found at (?P<paths>.*\.json)"
)
_OTHER_TRITON = re.compile(
    rf"Config file not found at (?P<missed>.*?{_NAME})\. Fallback to triton version \S+ and use "
    rf"MoE kernel config from (?P<opened>.*{_NAME})\. Performance"
)
_UP_FILE = re.compile(
    rf"Down MoE config file not found at (?P<missed>.*{_NAME}); reusing the tuned up-projection"
)
_FIXED = "Deterministic inference is enabled, using default MoE kernel config."
_BACKEND = re.compile(
    r"Using (?P<quote>'?)(?P<name>[\w ]+?)(?P=quote) "
    r"(?P<layers>Unquantized|Fp8|Int8|WNA16|Mxfp4|NvFp4|MxFp8|W4A8|W4A8 Int8|Humming) "
    r"MoE (?:LoRA )?backend"
)
_VLLM_ARGS = re.compile(r"non-default args: (?P<args>\{.*)")
_VLLM_CONFIG = re.compile(r"Initializing a V1 LLM engine \(v(?P<version>[^)]*)\) with config: ")
_VLLM_VERSION = re.compile(
    r"(?:vLLM server version |█ {2}version |Launching vLLM \(v)(?P<version>[^\s,)]+)"
)
"""entrypoints/common/startup.py:18, in a line or beside the logo; entrypoints/cli/serve.py:224 of a
node without an API. SGLang's log does not say a version."""
_VLLM_EP = re.compile(r"\[EP Rank [0-9]+/(?P<ep_size>[0-9]+)\] Expert parallelism is enabled")
_SGLANG_ARGS = re.compile(r"server_args=(?:ServerArgs\(|\{)")


def read_servers(lines: Iterable[LogLine]) -> list[Server]:
    """Return the servers of a log that say something, in its order."""
    servers: list[Server] = []
    for line in lines:
        if (args := _args_of(line)) is not None:
            engine, source, values, version = args
            server = _starting(servers, engine, source, values, line)
            server.args |= {name: values[name] for name in values.keys() - server.args.keys()}
            server.version = server.version or version
        elif match := _VLLM_EP.search(line.message):
            _current(servers, "vllm", line).args["ep_size"] = match["ep_size"]
        else:
            _read_layer(servers, line)
    return servers


def _read_layer(servers: list[Server], line: LogLine) -> None:
    text = line.message[:_LONGEST]
    if "MoE" not in text:
        return
    if (lookup := _lookup_of(text)) is not None:
        seen = _current(servers, lookup.engine, line).lookups.setdefault(lookup, Seen(line.number))
    elif match := _BACKEND.search(text):
        backend = Backend(match["layers"], match["name"])
        seen = _current(servers, "vllm", line).backends.setdefault(backend, Seen(line.number))
    elif _FIXED in text:
        server = _current(servers, "sglang", line)
        server.fixed = seen = server.fixed or Seen(line.number)
    else:
        return
    seen.add(line)


def _lookup_of(text: str) -> Lookup | None:
    if match := _OTHER_TRITON.search(text):
        missed = _paths(match["missed"])
        return Lookup(
            "sglang", FileState.OTHER_TRITON, _base(missed[0]), missed, match["opened"].strip()
        )
    if match := _UP_FILE.search(text):
        missed = _paths(match["missed"])
        return Lookup("sglang", FileState.UP_FILE, _base(missed[0]), missed)
    if (match := _MISSED.search(text)) and (missed := _paths(match["paths"])):
        engine = "sglang" if match["kernel"] else "vllm"
        return Lookup(engine, FileState.MISSED, _base(missed[0]), missed)
    if match := _FOUND.search(text):
        engine = "vllm" if match["vllm"] else "sglang"
        path = match[engine].strip()
        return Lookup(engine, FileState.OPENED, _base(path), opened=path)
    return None


def _paths(text: str) -> tuple[str, ...]:
    """Return the paths of a list, whose names have commas of their own."""
    return tuple(match["folder"].lstrip(", '[") + match["name"] for match in _PATH.finditer(text))


def _base(path: str) -> str:
    match = _PATH.search(path)
    return match["name"] if match else path


def _args_of(line: LogLine) -> tuple[str, str, dict[str, str], str] | None:
    """Return engine, kind of line, arguments and the engine's version."""
    text = line.message
    if match := _VLLM_ARGS.search(text):
        return "vllm", "args", _fields(match["args"][1:], WANTED["vllm"]), ""
    if match := _VLLM_CONFIG.search(text):
        values = _fields(text[match.end() :], WANTED["vllm"])
        return "vllm", "config", values, match["version"]
    if match := _VLLM_VERSION.search(text):
        return "vllm", "version", {}, match["version"]
    if match := _SGLANG_ARGS.search(text):
        return "sglang", "args", _fields(text[match.end() :], WANTED["sglang"]), ""
    return None


def _starting(
    servers: list[Server], engine: str, source: str, values: Mapping[str, str], line: LogLine
) -> Server:
    """Return the server that a line with arguments speaks of: a new one where the current one has
    had such a line, unless that said the same and nothing came since."""
    current = servers[-1] if servers else None
    if current is not None and current.engine == engine:
        is_same = all(values.get(name) == current.args.get(name) for name in _TELLING)
        is_other_half = source not in current.sources and not current.has_started
        if is_other_half or (is_same and (source == "config" or not current.has_started)):
            current.sources.add(source)
            return current
    servers.append(Server(engine, line.number, sources={source}))
    return servers[-1]


def _current(servers: list[Server], engine: str, line: LogLine) -> Server:
    if not servers or servers[-1].engine != engine:
        servers.append(Server(engine, line.number))
    return servers[-1]


_KEY = re.compile(r"\s*['\"]?(?P<name>\w+)['\"]?\s*[=:]\s*(?P<value>.*)", re.DOTALL)


def _fields(text: str, wanted: frozenset[str]) -> dict[str, str]:
    """Return fields of a printed dict or call, less quotes; what is None is left out."""
    found: dict[str, str] = {}
    for part in _parts(text):
        match = _KEY.fullmatch(part)
        if match and match["name"] in wanted and match["value"] not in ("None", ""):
            found.setdefault(match["name"], _unquoted(match["value"].strip()[:_LONGEST]))
    return found


def _unquoted(value: str) -> str:
    """Return the text that a printed one stands for; anything else as it is."""
    if value[:1] not in ("'", '"'):
        return value
    try:
        return str(ast.literal_eval(value))
    except (ValueError, SyntaxError):
        return value


def _parts(text: str) -> Iterator[str]:
    """Yield the parts between commas that stand in no bracket and no quote; ends where the
    brackets around ``text`` do."""
    start = depth = 0
    quote = ""
    for at, sign in enumerate(text):
        if quote:
            if sign == quote and text[at - 1] != "\\":
                quote = ""
        elif sign in "'\"":
            quote = sign
        elif sign in "([{":
            depth += 1
        elif sign in ")]}":
            depth -= 1
            if depth < 0:
                yield text[start:at]
                return
        elif sign == "," and depth == 0:
            yield text[start:at]
            start = at + 1
    yield text[start:]
