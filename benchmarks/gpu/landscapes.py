"""Records landscapes of our kernels: one command, with a budget, which goes on where it stopped.

    python benchmarks/gpu/landscapes.py --budget 540

Each campaign is a ``python -m autotune record`` into one file under ``--output``, named after it.
What of the budget a campaign does not use, the later ones get. With ``--limit`` only so many
random configs, and the engines' defaults, are recorded. ``--device cuda:1`` takes another GPU: with
``--only``, several can record at the same time. The last campaign has the very configs that
SGLang's kernel was recorded with, which ``agree.py`` compares.

``--device estimate:NVIDIA_H200 --limit 4`` rehearses it without a GPU; such files say in their
device that nothing was measured.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).parent


@dataclass(frozen=True, slots=True)
class Campaign:
    """One file."""

    name: str
    flags: tuple[str, ...]
    batch_sizes: tuple[int, ...] = ()
    """Empty: the engines' 18."""

    @property
    def weight(self) -> int:
        """Share of the budget: measuring is by batch size, compiling once for all."""
        return 2 + (len(self.batch_sizes) or 18)


_QWEN = ("--model", "Qwen/Qwen3-30B-A3B", "--tp-size", "1")
_DEEPSEEK = ("--model", "deepseek-ai/DeepSeek-V3", "--tp-size", "8", "--engine", "sglang")
_MIXTRAL = ("--model", "mistralai/Mixtral-8x7B-v0.1", "--tp-size", "2")
_SEPARATE = ("--kernel", "separate", "--engine", "sglang")
_SGLANGS = HERE.parent / "landscapes" / "sglang" / "qwen3-30b-a3b_tp1_bf16.npz"
CAMPAIGNS = (
    Campaign("qwen3-30b-a3b_tp1_bf16", _QWEN),
    Campaign("deepseek-v3_tp8_fp8block", _DEEPSEEK, (16, 128, 1024)),
    Campaign("mixtral-8x7b_tp2_bf16", _MIXTRAL, (16, 256, 2048)),
    Campaign("qwen3-30b-a3b_tp1_bf16_separate", (*_QWEN, *_SEPARATE), (256,)),
    Campaign(
        "qwen3-30b-a3b_tp1_bf16_twin_separate",
        (*_QWEN, *_SEPARATE, "--like", str(_SGLANGS)),
        (16, 64, 256, 1024, 4096),
    ),
)
"""The fourth and fifth time each GEMM alone, the fourth with TMA and without."""


def record(campaign: Campaign, args: argparse.Namespace, seconds: float | None) -> bool:
    """True where the file is whole."""
    sizes = args.batch_size or campaign.batch_sizes
    command = [sys.executable, "-m", "autotune", "record", *campaign.flags]
    command += ["--device", args.device, "--output", str(args.output / f"{campaign.name}.npz")]
    command += ["--batch-size", *map(str, sizes)] if sizes else []
    command += ["--limit", str(args.limit)] if args.limit else []
    command += ["--give-up-at", str(args.give_up_at)] if args.give_up_at else []
    command += ["--timeout", f"{seconds:.0f}"] if seconds else []
    print("$", *command[1:], flush=True)
    return subprocess.run(command, check=False).returncode == 0


def run(campaigns: Sequence[Campaign], args: argparse.Namespace) -> list[str]:
    """Names of those that are not whole."""
    began = time.monotonic()
    missing = []
    for number, campaign in enumerate(campaigns):
        seconds = None
        if args.budget:
            left = args.budget - (time.monotonic() - began)
            share = campaign.weight / sum(later.weight for later in campaigns[number:])
            seconds = left * share
        if (seconds is not None and seconds < 1) or not record(campaign, args, seconds):
            missing.append(campaign.name)
    return missing


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--output", type=Path, default=HERE.parent / "landscapes")
    parser.add_argument("--budget", type=float, metavar="S", help="seconds for all of it")
    parser.add_argument("--limit", type=int, metavar="N", help="random configs of each space")
    parser.add_argument("--give-up-at", type=float, metavar="X", help="as of record")
    parser.add_argument("--only", nargs="+", metavar="NAME", help="campaigns, by file name")
    parser.add_argument("--batch-size", type=int, nargs="+", help="instead of each campaign's")
    args = parser.parse_args()
    if unknown := set(args.only or ()) - {campaign.name for campaign in CAMPAIGNS}:
        parser.error(f"no campaign {unknown}; there are {', '.join(c.name for c in CAMPAIGNS)}")
    chosen = [c for c in CAMPAIGNS if not args.only or c.name in args.only]
    missing = run(chosen, args)
    for name in missing:
        print(f"{name} is not whole: the same command goes on")
    return int(bool(missing))


if __name__ == "__main__":
    sys.exit(main())
