"""Records what parity.py compares: our kernel and the installed engines', dtype by dtype.

    python benchmarks/gpu/parity_recordings.py --out DIR --only bf16 fp8_block
    python benchmarks/gpu/parity.py DIR/*.npz --write

Each case is recorded on our kernel first: ``--limit`` random configs and the engines' defaults. Of
these the fastest of each batch size, and as many at random, are recorded on each engine's kernel.

``--timeout`` is for one recording, in seconds. The same command goes on with what is there.
``--device estimate:NVIDIA_H200 --engines`` rehearses our part without a GPU.
"""

from __future__ import annotations

import argparse
import random
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from autotune.backends.replay.recording_format import Recording, read_recording, write_recording
from autotune.backends.stand_in import OURS
from autotune.spec.config import AnyConfig
from autotune.studies.outcome import Outcome

_QWEN = ("--model", "Qwen/Qwen3-30B-A3B")
_MIXTRAL = ("--model", "mistralai/Mixtral-8x7B-v0.1", "--tp-size", "2")
_DEEPSEEK = ("--model", "deepseek-ai/DeepSeek-V3", "--tp-size", "8")
CASES = {
    "bf16": _QWEN,
    "bf16_mixtral": _MIXTRAL,
    "fp8_block": (*_DEEPSEEK, "--disable-shared-experts-fusion"),
    "fp8_tensor": (*_MIXTRAL, "--dtype", "fp8_w8a8"),
    "fp8_channel": (*_MIXTRAL, "--dtype", "fp8_w8a8", "--per-channel-quant"),
    "int8_w8a8": (*_MIXTRAL, "--dtype", "int8_w8a8", "--per-channel-quant"),
    "int8_w8a16": (*_MIXTRAL, "--dtype", "int8_w8a16"),
    "int4_w4a16": (*_MIXTRAL, "--dtype", "int4_w4a16"),
}
"""Name → flags of the model. Without a fused expert both engines have DeepSeek's problem."""


@dataclass(frozen=True, slots=True)
class Campaign:
    """What all recordings have in common."""

    out: Path
    device: str
    sizes: tuple[str, ...]
    timeout_s: int

    def path(self, case: str, provider: str) -> Path:
        return self.out / f"{case}_{provider}.npz"

    def command(self, case: str, provider: str, sizes: Sequence[str], output: Path) -> list[str]:
        words = [sys.executable, "-m", "autotune", "record", *CASES[case], "--provider", provider]
        words += ["--device", self.device, "--timeout", str(self.timeout_s)]
        return [*words, "--output", str(output), "--batch-size", *sizes]

    def record(self, case: str, provider: str, *more: str) -> Path:
        """Record one case on one kernel, as far as the time goes."""
        path = self.path(case, provider)
        command = [*self.command(case, provider, self.sizes, path), *more]
        print("$", *command[1:], flush=True)
        subprocess.run(command, check=False)
        return path


def fastest_and_others(path: Path, count: int, seed: int = 0) -> list[AnyConfig]:
    """Return the ``count`` fastest configs of each problem, and as many others at random."""
    studies = read_recording(path).studies.values()
    chosen: dict[AnyConfig, None] = {}
    for results in studies:
        us = {
            config: result.measurement.geomean_us
            for config, result in results.items()
            if result.outcome is Outcome.OK and result.measurement is not None
        }
        chosen |= dict.fromkeys(sorted(us, key=us.__getitem__)[:count])
    others = list(dict.fromkeys(c for results in studies for c in results if c not in chosen))
    return [*chosen, *random.Random(seed).sample(others, min(count, len(others)))]


def keep(path: Path, configs: Sequence[AnyConfig], kept: Path) -> None:
    """Write what a recording says of these configs alone, for ``--like``."""
    whole = read_recording(path)
    studies = {
        key: {config: results[config] for config in configs if config in results}
        for key, results in whole.studies.items()
    }
    write_recording(kept, Recording(studies, {}, whole.versions))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--only", nargs="+", choices=list(CASES), default=list(CASES))
    parser.add_argument("--engines", nargs="*", default=["sglang", "vllm"])
    parser.add_argument("--batch-size", nargs="+", default=["16", "128", "1024"])
    parser.add_argument("--limit", type=int, default=400, help="random configs on our kernel (400)")
    parser.add_argument("--fastest", type=int, default=25, help="of each batch size (25)")
    parser.add_argument("--timeout", type=int, default=90, help="seconds for one recording (90)")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    (args.out / "like").mkdir(exist_ok=True)
    campaign = Campaign(args.out, args.device, tuple(args.batch_size), args.timeout)
    for case in args.only:
        ours = campaign.record(case, OURS, "--limit", str(args.limit))
        if not ours.exists():
            continue
        like = args.out / "like" / ours.name
        keep(ours, fastest_and_others(ours, args.fastest), like)
        for engine in args.engines:
            campaign.record(case, engine, "--like", str(like))


if __name__ == "__main__":
    main()
