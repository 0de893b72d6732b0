"""Prints what ``sglang_builds.build`` has SGLang build; its loader of builds is stood in for."""

from __future__ import annotations

import json
import sys
from types import ModuleType, SimpleNamespace
from typing import Any

from autotune.backends.gpu.providers import build_ahead
from autotune.spec.problem import Dtype, Problem

LAYER = {"experts": 8, "top_k": 2, "hidden": 256, "intermediate": 256, "tokens": 4}
BUILT: list[list[str]] = []


def load_jit(*args: str, **_: Any) -> None:
    BUILT.append([str(arg) for arg in args])


class Struct:
    """In place of msgspec's, which SGLang's table of kernels is made of."""

    def __init_subclass__(cls, **_: object) -> None: ...

    def __init__(self, *args: object, **keywords: object) -> None:
        vars(self).update(zip(type(self).__annotations__, args, strict=False))
        vars(self).update(keywords)


def main() -> None:
    msgspec: Any = ModuleType("msgspec")
    msgspec.Struct = Struct
    sys.modules.setdefault("msgspec", msgspec)
    utils: Any = ModuleType("sglang.kernels.jit.utils")
    utils.load_jit, utils.cache_once = load_jit, lambda function: function
    utils.make_cpp_args = lambda *args: args
    utils.is_arch_support_pdl, utils.get_activation_cuda_cflags = lambda: True, list
    utils.get_jit_cuda_arch = lambda: SimpleNamespace(major=9, minor=0)
    sys.modules[utils.__name__] = utils
    given = json.loads(sys.argv[1])
    given |= {"dtype": Dtype(given.get("dtype", "bf16"))}
    given |= {"block_shape": tuple(block)} if (block := given.get("block_shape")) else {}
    said = build_ahead("sglang", Problem(**LAYER | given))
    print(json.dumps({"said": said, "built": sorted(BUILT)}))


if __name__ == "__main__":
    main()
