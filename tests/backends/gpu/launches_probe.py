"""Does with a toy engine's launches what test_launches.py asks about, and prints it as JSON: run
without TRITON_INTERPRET, with an empty TRITON_CACHE_DIR."""

from __future__ import annotations

import json
import os
import pickle
import subprocess
import sys
from dataclasses import asdict, replace
from pathlib import Path

from tiled_kernel import layer, tiled_kernel  # type: ignore[import-not-found]

from autotune.backends.binaries import LaunchBinary, compile_binary
from autotune.backends.gpu.launches import Launch, binaries_of, compiled, held_back
from autotune.kernels.compile import _pretended
from autotune.spec.config import Config
from autotune.spec.device import Target

SM90 = Target("cuda", 90)
CONFIG = Config(64, 32, 64, 8, 4, 2)


def launches(config: Config, down: Config | None = None) -> list[Launch]:
    with held_back() as found:
        layer(config.as_keys(), [], down.as_keys() if down else None)
    return found


def entries() -> list[str]:
    return sorted(path.name for path in Path(os.environ["TRITON_CACHE_DIR"]).iterdir())


def main() -> None:
    found = launches(CONFIG, replace(CONFIG, use_tma=True))
    with _pretended(tiled_kernel, SM90):
        binaries = binaries_of(found)
    written = entries() if Path(os.environ["TRITON_CACHE_DIR"]).exists() else []
    other = subprocess.run(
        [sys.executable, __file__, "compile"],
        input=pickle.dumps(list(binaries.values())),
        capture_output=True,
        check=True,
    )
    before = entries()
    with _pretended(tiled_kernel, SM90):
        answers = compiled(found, SM90)
        after = entries()
        left = len(binaries_of(found))
        new = len(binaries_of(launches(replace(CONFIG, group_size_m=1))))
    bad = launches(replace(CONFIG, block_size_m=48))
    with _pretended(tiled_kernel, SM90):
        refused = {which: asdict(answer) for which, answer in compiled(bad, SM90).items()}
        [up, _] = binaries_of(bad).values()
    assert isinstance(up, LaunchBinary)
    print(
        json.dumps(
            {
                "keys": [binary.key for binary in binaries.values()],
                "written": written,
                "elsewhere": json.loads(other.stdout),
                "tma": ["tensordesc" in binary.specialization for binary in binaries.values()],
                "here": {which: asdict(answer) for which, answer in answers.items()},
                "before": before,
                "after": after,
                "left_in_memory": left,
                "of_another_group": new,
                "refused": refused,
                "refused_elsewhere": asdict(compile_binary(up, SM90)),
            }
        )
    )


def compile_for_another() -> None:
    binaries = pickle.load(sys.stdin.buffer)
    print(json.dumps([asdict(compile_binary(binary, SM90)) for binary in binaries]))


if __name__ == "__main__":
    compile_for_another() if sys.argv[1:] else main()
