"""Config files of SGLang and vLLM: their names, how the engines read them, and what is legal there.

    base.py        Engine, the seam to a serving engine, and DEFAULT_TOKENS
    sglang.py      SGLang's file names, lookup, defaults and legality
    vllm.py        vLLM's
    names.py       the parts of an engine file's name: joined and parsed
    entries.py     the JSON inside: reading it, and judging one entry without knowing its engine
    gpus.py        the architecture of the GPU in a file's name, by a table
    serving.py     the problem that an engine serves: ranks that share an expert, whole scale blocks
    known.py       which models an engine has a class for: classes.json, made out of the wheels
    fusion.py      which models SGLang serves with the shared expert as a routed one, as a table
    redundant.py   which models' classes take no redundant experts, as a table
    kernel_choice.py   the kernel that an engine takes by itself, Triton's or not: rows of rules
    sglang_kernels.py  those rows of SGLang
    vllm_kernels.py    and of vLLM
    legality.py    rules of both engines for a config
    read_write.py  writes winners into files without losing what is there, and reads files back
    check.py       is a file legal, and would the engine find and load it
    convert.py     makes one engine's file legal for the other
    opening.py     which file an engine opens, and the config that it launches
    own_code/      what an engine's own code says of a model, asked without importing the engine
    server_log.py  the lines of a server's log, without time, level and process
    served.py      what such a log says: model, split, kernels, files opened and missed
    folders.py     names of the folders that tell what was not measured on the engine's kernel
    server_steps.py    the steps that a server ran, from its log or the plugin's steps.csv
    served_sizes.py    batch sizes to tune for them
    atomic.py      writes and locks files that other processes read and write

An engine is one file with a subclass of ``Engine`` and one line in ``ENGINES``.
"""

from __future__ import annotations

from collections.abc import Mapping

from autotune.engines.base import DEFAULT_TOKENS, Engine, Found
from autotune.engines.check import CheckReport, Level, check_file
from autotune.engines.read_write import WrittenFile, held, read_configs, write_configs
from autotune.engines.sglang import SGLang
from autotune.engines.vllm import VLLM

ENGINES: Mapping[str, Engine] = {"sglang": SGLang(), "vllm": VLLM()}

__all__ = [
    "DEFAULT_TOKENS",
    "ENGINES",
    "CheckReport",
    "Engine",
    "Found",
    "Level",
    "WrittenFile",
    "check_file",
    "held",
    "read_configs",
    "write_configs",
]
