"""Study after study, or in turn? Best/optimum of 18 batch sizes against the seconds of a run.

    python benchmarks/workers/turns.py [--workers 1] [--prepare-ms 115] [--keep 1] [--trials 60]

Real runs of the product. The GPU is pretended: it plays the H200 recording of Qwen3-30B-A3B beside
this folder, interpolated to 18 batch sizes (log time over log batch size), takes --measure-ms for
a measurement, and --prepare-ms for each batch size whose tensors are not among the last --keep.
115 ms is the mean of 17 batch sizes on an H200. Nothing is compiled.

    turns    as the product does: workers.scheduler.visiting_order
    study    one study after the other: a worker stays where it is until nothing is left there
"""

from __future__ import annotations

import argparse
import math
import os
import resource
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np
from landscape import BATCH_SIZES, GemmTimes, pretended_gpu, write_gemm_times

from autotune.backends.protocol import MeasurerOptions
from autotune.backends.replay.measurer import ReplayMeasurer
from autotune.backends.replay.recording_format import read_recording
from autotune.report.terminal.run_display import PlainDisplay
from autotune.settings import ModelSettings, RunSettings
from autotune.spec.config import AnyConfig, Config
from autotune.spec.problem import Problem
from autotune.studies.outcome import TrialResult
from autotune.studies.search.pruning import Stop
from autotune.studies.storage.open import open_storage
from autotune.studies.study_record import stored_studies
from autotune.tuning import tuning_study
from autotune.tuning.compile_service.pool import CompilePool
from autotune.tuning.processes.killable import KillableProcess, ProcessHandle
from autotune.tuning.session import run
from autotune.tuning.workers import scheduler, worker_process
from autotune.tuning.workers.launcher import Launcher, SpecsOf, worker_specs
from autotune.tuning.workers.protocol import WorkerSpec
from autotune.tuning.workers.scheduler import Standing, Visit
from autotune.tuning.workers.supervisor import Start

RECORDED = Path(__file__).parents[1] / "landscapes" / "qwen3-30b-a3b_tp1_bf16.npz"
SHAPE = "E=128,topk=8,hidden=2048,intermediate=768"
ORDERS = ("study", "turns")
SECONDS = (2, 5, 10, 15, 20, 30, 45, 60, 90)
KillableProcess.imports_script = True  # workers have the pretended GPU too


@dataclass(frozen=True, slots=True)
class Pretended:
    """What the GPU takes."""

    prepare_s: float
    measure_s: float
    keep: int
    """Batch sizes whose tensors it keeps."""
    order: str


class PretendedMeasurer(ReplayMeasurer):
    """A replay that also has tensors to make."""

    def __init__(self, path: Path, options: MeasurerOptions, pretended: Pretended) -> None:
        super().__init__(path, seed=options.seed, seconds=pretended.measure_s)
        self._pretended = pretended
        self._kept: list[Problem] = []

    def measure(
        self, problem: Problem, config: AnyConfig, *, stop: Stop | None = None
    ) -> TrialResult:
        if problem in self._kept:
            self._kept.remove(problem)
        else:
            time.sleep(self._pretended.prepare_s)
        self._kept = [*self._kept, problem][-self._pretended.keep :]
        return super().measure(problem, config, stop=stop)


class PretendedLauncher(Launcher):
    """Workers of this machine on pretended GPUs."""

    def __init__(self, pretended: Pretended) -> None:
        super().__init__()
        object.__setattr__(self, "pretended", pretended)

    @contextmanager
    def specs(
        self,
        settings: RunSettings,
        storage: str,
        log_level: int,
        pools: Mapping[str, CompilePool],
    ) -> Iterator[tuple[SpecsOf, Start]]:
        pretended: Pretended = self.pretended  # type: ignore[attr-defined]
        specs_of = partial(worker_specs, settings, storage, log_level)
        yield specs_of, partial(_start, pretended)


def _start(pretended: Pretended, order: WorkerSpec) -> ProcessHandle:
    process: ProcessHandle = KillableProcess(_serve, order, pretended, has_children=True)
    return process


def _serve(link: Connection, order: WorkerSpec, pretended: Pretended) -> None:
    worker_process.open_measurer = partial(_open, pretended)
    if pretended.order == "study":
        scheduler.visiting_order = _one_after_the_other
        scheduler.Visit.is_over = _never
        queue = tuning_study.TuningStudy.queue_neighbours
        tuning_study.TuningStudy.queue_neighbours = _first_time_only(queue)
    worker_process.serve(link, order)


def _open(pretended: Pretended, selector: str, options: MeasurerOptions) -> PretendedMeasurer:
    return PretendedMeasurer(Path(selector.removeprefix("replay:")), options, pretended)


def _one_after_the_other(standings: Sequence[Standing], last: int) -> list[int]:
    count = len(standings)
    return sorted(range(count), key=lambda i: (standings[i].workers, (i - last - 1) % count))


def _never(visit: Visit, *, is_queued: bool) -> bool:
    return False


def _first_time_only(queue):  # type: ignore[no-untyped-def]
    asked: set[str] = set()

    def queue_neighbours(study: tuning_study.TuningStudy) -> None:
        if study.optuna_study.study_name not in asked:
            asked.add(study.optuna_study.study_name)
            queue(study)

    return queue_neighbours


def save_model(path: Path) -> dict[int, float]:
    """A landscape of all batch sizes. Returns the best time of each in µs."""
    recording = read_recording(RECORDED)
    found = {key.problem.tokens: results for key, results in recording.studies.items()}
    full = [
        [c for c, r in results.items() if r.measurement and len(r.measurement.samples_us) == 10]
        for results in found.values()
    ]
    configs = [c for c in full[0] if isinstance(c, Config) and all(c in each for each in full[1:])]
    sizes = sorted(found)
    logs = np.log([[found[m][c].measurement.samples_us for c in configs] for m in sizes])
    gemm_us, best = {}, {}
    for tokens in BATCH_SIZES:
        place = float(np.interp(math.log2(tokens), np.log2(sizes), range(len(sizes))))
        low, share = int(place), place % 1
        high = min(low + 1, len(sizes) - 1)
        us = np.exp((1 - share) * logs[low] + share * logs[high])
        gemm_us[tokens] = np.stack([us / 2, us / 2], axis=1)
        best[tokens] = float(np.exp(np.log(us).mean(axis=1)).min())
    times = GemmTimes(tuple(configs), gemm_us)
    problem = Problem(experts=128, top_k=8, hidden=2048, intermediate=768, tokens=1)
    write_gemm_times(path, times, [problem], pretended_gpu(path.stem), "pretended")
    return best


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--measure-ms", type=float, default=15.0)
    parser.add_argument("--prepare-ms", type=float, default=115.0)
    parser.add_argument("--keep", type=int, default=18)
    parser.add_argument("--trials", type=int, default=60)
    parser.add_argument("--stop-gain", type=float, default=0.005)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--orders", nargs="+", default=list(ORDERS), choices=ORDERS)
    args = parser.parse_args()
    print(
        f"{args.workers} workers, {args.measure_ms:g} ms a measurement, {args.prepare_ms:g} ms to "
        f"prepare, {args.keep} kept, {os.cpu_count()} cores (load {os.getloadavg()[0]:.1f})"
    )
    heads = " | ".join(f"{seconds} s" for seconds in SECONDS)
    print(f"| order | {heads} | end (worst) | measured | after | CPU |")
    print("|---" * (len(SECONDS) + 5) + "|", flush=True)
    for seed in range(args.seeds):
        for order in args.orders:
            print(_row(order, seed, args), flush=True)
    return 0


def _row(order: str, seed: int, args: argparse.Namespace) -> str:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        best = save_model(folder / "model.npz")
        settings = RunSettings(
            model=ModelSettings(shape=SHAPE, batch_sizes=BATCH_SIZES),
            device=f"replay:{folder / 'model.npz'}",
            jobs=args.workers,
            trials=args.trials,
            stop_gain=args.stop_gain,
            output_dir=folder / "configs",
            cache_dir=folder / "cache",
            seed=seed,
        )
        gpu = Pretended(args.prepare_ms / 1e3, args.measure_ms / 1e3, args.keep, order)
        storage = f"sqlite:///{folder}/autotune.db"
        before = _cpu_s()
        run(settings, storage, PlainDisplay(), launcher=PretendedLauncher(gpu))
        return f"{_line(order, best, storage)} {_cpu_s() - before:.1f} s |"


def _cpu_s() -> float:
    """Of all processes that this one has waited for."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _line(order: str, best: dict[int, float], storage: str) -> str:
    found = []
    for study in stored_studies(open_storage(storage, create=False)):
        for trial in study.trials:
            if trial.state.name == "COMPLETE" and trial.datetime_complete and trial.datetime_start:
                found.append((trial.datetime_complete, study.key.problem.tokens, trial.value))
            elif trial.state.name == "PRUNED" and trial.datetime_complete:
                found.append((trial.datetime_complete, study.key.problem.tokens, math.inf))
    found.sort()
    began = found[0][0]
    reached = dict.fromkeys(best, 0.0)
    cells, marks = [], list(SECONDS)
    for at, tokens, us in found:
        while marks and (at - began).total_seconds() > marks[0]:
            cells.append(f"{np.mean(list(reached.values())):.3f}")
            marks.pop(0)
        reached[tokens] = max(reached[tokens], min(best[tokens] / us, 1.0))
    mean, worst = np.mean(list(reached.values())), min(reached.values())
    cells += [""] * len(marks)
    after = (found[-1][0] - began).total_seconds()
    return (f"| {order} | {' | '.join(cells)} | {mean:.4f} ({worst:.3f}) | {len(found)} "
            f"| {after:.1f} s |")  # fmt: skip


if __name__ == "__main__":
    raise SystemExit(main())
