"""The command that makes a tuned file which a server's log says was missed."""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

from autotune.commands.flag_command import parse_flags
from autotune.commands.model_flags import ModelFlags, model_settings
from autotune.engines import ENGINES, Engine
from autotune.engines.check import assumed
from autotune.engines.names import NameParts
from autotune.engines.served import FileState, Lookup, Server
from autotune.errors import AutotuneError, ModelError
from autotune.models.shape import ModelShape
from autotune.settings import ModelSettings
from autotune.spec.problem import Problem
from autotune.tuning.jobs import model_shape
from autotune.tuning.serving import named, problem_for

_OUTPUT = Path("configs")
_MODEL = {"vllm": "model", "sglang": "model_path"}
_REDUNDANT = re.compile(r"num_redundant_experts['\"]?[=:] *(?P<number>[0-9]{1,6})")


@dataclass(frozen=True, slots=True)
class Advice:
    """The command for one missing file, and what its output needs to be opened."""

    command: str
    makes: str | None
    """The name of the file that it makes, by the rules of a run; None where that is not known."""
    note: str
    """What is to be known of the command; may be empty."""
    export: str
    """The line of a shell that makes a server open the output; empty where it looks there now."""


@dataclass(frozen=True, slots=True)
class Adviser:
    """Composes commands for the missing files of one server."""

    server: Server
    model: str | None
    """As the log names it, or ``doctor --model``."""
    sources: tuple[Path, ...] = ()
    """``--engine-source``."""

    @classmethod
    def of(cls, server: Server, model: str | None, sources: Sequence[Path]) -> Adviser:
        """Return the adviser for a server; ``model`` stands in for the log's."""
        return cls(server, model or server.args.get(_MODEL[server.engine]), tuple(sources))

    @property
    def engine(self) -> Engine:
        return ENGINES[self.server.engine]

    @property
    def parallel(self) -> list[str]:
        """The flags that say how the model is split."""
        return (
            _vllm_flags(self.server) if self.engine.name == "vllm" else _sglang_flags(self.server)
        )

    def tune(self) -> str:
        """Return the command for the whole model, where no file's name is known."""
        return self._run(["--model", self.model or "MODEL", *self.parallel])

    def look(self) -> str:
        """Return the command that says which kernel the engine takes by itself, and its files."""
        words = ["--model", self.model or "MODEL", *self.parallel, "--engine", self.engine.name]
        return shlex.join(["python", "-m", "autotune", "doctor", *words])

    def problem(self) -> tuple[ModelShape, Problem] | None:
        """Return shape and problem of the served model; None where they cannot be known here."""
        if self.model is None:
            return None
        try:
            settings, shape = self._read(["--model", self.model, *self.parallel])
            return shape, problem_for(shape, settings, self.engine, settings.batch_sizes[0])
        except AutotuneError:
            return None

    def advice(self, lookup: Lookup) -> Advice | None:
        """Return the command that makes a missing file; None where it was opened, or its name is
        none that the engine gives to files of this kernel."""
        parts = self.engine.parse_name(lookup.name)
        if lookup.state is FileState.OPENED or parts is None:
            return None
        flags = self._flags(lookup.name, parts)
        export, output = _placed(self.engine, lookup)
        pair = ["--kernel", "separate"] if self._lacks_pair(lookup, parts) else []
        to = ["--output-dir", str(output)] if output else []
        return Advice(self._run([*flags.words, *pair, *to]), flags.makes, flags.note, export)

    def _lacks_pair(self, lookup: Lookup, parts: NameParts) -> bool:
        """True where the up file was opened and only the down file is missing: one config for both
        GEMMs is what is launched now."""
        if lookup.state is not FileState.UP_FILE:
            return False
        up = self.engine.spell(replace(parts, down=False))
        opened = (each.name for each in self.server.lookups if each.state is FileState.OPENED)
        return up in opened

    def _run(self, flags: Sequence[str]) -> str:
        words = ["python", "-m", "autotune", "run", *flags, "--engine", self.engine.name]
        return shlex.join(words)

    def _flags(self, name: str, parts: NameParts) -> _Flags:
        if self.model is None:
            return self._from_name(name, parts, _UNKNOWN, _NO_MODEL)
        served = ["--model", self.model, *self.parallel]
        differences = []
        for dtype in ([], _dtype_flags(parts)):
            try:
                made = self._made([*served, *dtype], parts)
            except ModelError as error:
                return _Flags(served, None, f"not held against the file's name: {error}")
            except AutotuneError as error:
                made = f"nothing: {error}"
            if made == name:
                return _Flags([*served, *dtype], made)
            differences.append(made)
        why = f"with the log's arguments {self.model} would make {differences[0]}"
        return self._from_name(name, parts, self._sizes(), why)

    def _sizes(self) -> tuple[str, str]:
        """Return the model's top-k and hidden size, or what stands for them."""
        try:
            _, shape = self._read(["--model", self.model or ""])
        except AutotuneError:
            return _UNKNOWN
        return str(shape.top_k), str(shape.hidden)

    def _from_name(self, name: str, parts: NameParts, sizes: tuple[str, str], why: str) -> _Flags:
        """Return flags of a layer of which nothing but the name is known. ``sizes`` are top-k and
        the hidden size, or what stands for them; ``--shape`` knows no scale blocks."""
        if parts.block_shape:
            words = [
                "--model",
                "MODEL",
                *(self.parallel if self.server.args else ["--tp-size", "TP"]),
            ]
            return _Flags(words, None, f"{why}; put in the layer's model, as blocks need one")
        ranks = self.server.number("ep_size")
        experts, (top_k, hidden) = parts.experts * ranks, sizes
        shape = f"E={experts},topk={top_k},hidden={hidden},intermediate={parts.intermediate}"
        split = ["--ep-size", str(ranks)] if ranks > 1 else []
        words = ["--shape", shape, *split, *_dtype_flags(parts)]
        if not top_k.isdecimal():
            return _Flags(words, None, f"{why}; put in its experts per token and its hidden size")
        try:
            made = self._made(words, parts)
        except AutotuneError as error:
            return _Flags(words, None, f"{why}; --shape would make nothing: {error}")
        differs = "" if made == name else f", and --shape {made}"
        note = f"{why}{differs}; top-k and hidden size are that model's: are they this layer's?"
        return _Flags(words, made, note)

    def _made(self, flags: Sequence[str], parts: NameParts) -> str:
        """Return the name of the file that a run with these flags makes. Raises as ``run`` does."""
        settings, shape = self._read(flags)
        engine = named(shape, settings, self.engine)
        problem = problem_for(shape, settings, engine, settings.batch_sizes[0])
        return engine.file_name(problem, assumed(parts)[1], down=parts.down)

    def _read(self, flags: Sequence[str]) -> tuple[ModelSettings, ModelShape]:
        """Return what the flags of a run come to. Raises AutotuneError."""
        given = replace(parse_flags(ModelFlags, flags), engine_sources=self.sources)
        settings = model_settings(given, given.model)
        return settings, _shape_of(settings.model, settings.shape)


@dataclass(frozen=True, slots=True)
class _Flags:
    """Flags of a model, and the name of the file that they make."""

    words: list[str]
    makes: str | None
    note: str = ""


_UNKNOWN = ("TOPK", "HIDDEN")
_NO_MODEL = "no line of the log names the model"


@cache
def _asked(model: str | None, shape: str | None) -> ModelShape | ModelError:
    """Ask once for a model that is not here: the Hub is waited for."""
    settings = ModelSettings(model=model, shape=shape)
    try:
        return model_shape(settings)
    except ModelError as error:
        return error


def _shape_of(model: str | None, shape: str | None) -> ModelShape:
    """Raises ModelError for a model that is not here."""
    found = _asked(model, shape)
    if isinstance(found, ModelError):
        raise found
    return found


def _dtype_flags(parts: NameParts) -> list[str]:
    dtype = parts.problem_dtype
    channel = ["--per-channel-quant"] if parts.per_channel_quant else []
    return ["--dtype", dtype.value, *channel] if dtype else channel


def _vllm_flags(server: Server) -> list[str]:
    """Say TP, DP and EP as vLLM does; prefill contexts are split like data (config.py:1108)."""
    contexts = server.number("prefill_context_parallel_size")
    flags = ["--tp-size", str(server.number("tensor_parallel_size") * contexts)]
    if (ranks := server.number("data_parallel_size")) > 1:
        flags += ["--data-parallel-size", str(ranks)]
    if server.is_on("enable_expert_parallel") or server.number("ep_size") > 1:
        flags += ["--enable-expert-parallel"]
        match = _REDUNDANT.search(server.args.get("eplb_config", ""))
        flags += _redundant_flags(int(match["number"]) if match else 0)
    return flags


def _sglang_flags(server: Server) -> list[str]:
    """Say the ranks of the experts (srt/runtime_context.py:154), and fusion."""
    ranks = server.number("tp_size") // max(1, server.number("moe_dp_size"))
    flags = ["--tp-size", str(max(1, ranks))]
    if (parts := server.number("ep_size")) > 1:
        flags += ["--ep-size", str(parts)]
        flags += _redundant_flags(server.number("ep_num_redundant_experts", 0))
    if server.is_on("disable_shared_experts_fusion"):
        flags += ["--disable-shared-experts-fusion"]
    return flags


def _redundant_flags(number: int) -> list[str]:
    return ["--ep-num-redundant-experts", str(number)] if number else []


def _placed(engine: Engine, lookup: Lookup) -> tuple[str, Path | None]:
    """Return the shell's line that makes a server open the output, and the output folder where
    that is not every run's: where the server looks into one that a run would fill, no line is
    needed."""
    looked = engine.folder_of(Path(lookup.missed[0])) if lookup.missed else None
    if looked is not None and looked.name == engine.name:
        return "", looked.parent
    return export_line(engine), None


def export_line(engine: Engine) -> str:
    """Return the shell's line that makes a server open what a run writes."""
    return f"export {engine.env_variable}=$PWD/{engine.env_folder(_OUTPUT)}"
