"""A whole run of all batch sizes, engines on their own kernels, on a clock that skips waits.

    python benchmarks/workers/simulate.py [--cases qwen3 qwen3-both deepseek] [--seeds 2] [--warm]
    python benchmarks/workers/simulate.py --gpus 1 2 4 8    # a worker on each for each engine
        [--measure-ms 15] [--storage-ms 0.55]

Studies, sampler, scheduler, worker loop, compile queue and finals are the product's. GPUs, and 16
compile processes for each of them, are pretended, and play recordings of an H200
(``benchmarks/landscapes``): a measurement takes what recorded ones took, GROUP_SIZE_M is a part of
a binary, as for the engines' kernels, and a binary takes ``--compile-s`` in the mean. Asking and
telling take the CPU time that they take here; writing is free, unless ``--storage-ms`` says what
a trial costs the storage, which then serves one after the other: a worker waits for what it
asks, not for what it tells. The clock begins when the workers have joined the studies.

Regret is of what the run would write, against the best of the whole recorded space, at the batch
sizes that were recorded; those between them are interpolated.
"""

from __future__ import annotations

import argparse
import heapq
import itertools
import math
import statistics
import tempfile
import threading
import time
import types
from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cache, cached_property
from pathlib import Path
from typing import Any

import numpy as np
import optuna
from landscape import BATCH_SIZES

from autotune.backends.binaries import Binaries, LaunchBinary
from autotune.backends.estimate.model import static_us
from autotune.backends.hardware import find_spec
from autotune.backends.protocol import TimedBinaries, timed_binaries
from autotune.backends.replay.recording_format import read_recording
from autotune.engines import ENGINES
from autotune.settings import ModelSettings, RunSettings
from autotune.spec.binary import Which
from autotune.spec.config import AnyConfig, Config
from autotune.spec.device import Device, DeviceKind
from autotune.spec.measurement import Measurement, Resources, typical_us
from autotune.spec.problem import Problem
from autotune.studies.coordination.claims import claim
from autotune.studies.coordination.leases import Census, Lease
from autotune.studies.key import StudyKey
from autotune.studies.outcome import Outcome, TrialResult
from autotune.studies.search.pruning import Stop, taken
from autotune.studies.search.surrogate.model import thread_pools
from autotune.studies.space import Space, moe_space
from autotune.studies.storage.open import open_storage
from autotune.studies.study_attributes import attributes_of
from autotune.studies.trial_io import ResultWriter
from autotune.tuning.compile_service.client import CompileClient, CompileRequest, Prefetch
from autotune.tuning.compile_service.queue import CompileQueue, TimedCompile
from autotune.tuning.finals import measure_finalists
from autotune.tuning.jobs import Job
from autotune.tuning.open_studies import join_studies, open_studies
from autotune.tuning.processes import dispatch
from autotune.tuning.processes.child import Call
from autotune.tuning.time_line import TimeLine, shares_of, shares_words
from autotune.tuning.tuning_study import StudyPlan, TuningStudy
from autotune.tuning.workers import worker_loop
from autotune.tuning.workers.protocol import StudyFinished

LANDSCAPES = Path(__file__).parents[1] / "landscapes"
FILES = {
    "qwen3": "qwen3-30b-a3b_tp1_bf16",
    "mixtral": "mixtral-8x7b_tp2_bf16",
    "deepseek": "deepseek-v3_tp8_fp8block",
}
CASES = {
    "qwen3": ("qwen3", ("vllm",)),
    "qwen3-sglang": ("qwen3", ("sglang",)),
    "qwen3-both": ("qwen3", ("vllm", "sglang")),
    "mixtral": ("mixtral", ("vllm",)),
    "deepseek": ("deepseek", ("sglang",)),
}
"""Case → recording, and the engines that are tuned for."""
CORES = 16
LAUNCH_S, VERIFY_S = 0.005, 0.005
"""Seconds of loading and capturing, and of verifying, ..."""
SAMPLE_TIMES, RESTED_TIMES = 3.3, 6.3
"""... and times its own time that a sample takes, below 700 µs and above, where the GPU rests. Our
recorded configs of Qwen3 took 5 to 6 ms and 2.6 to 3.2 times up to 32 tokens, 6.4 times at 2048
(least squares over ``measure_s``); an engine's Python comes on top."""
REST_FROM_US = 700.0
PREPARE_S = 0.115
"""A batch size's tensors, made at its first measurement: the mean of 17 on an H200."""
QUESTION_S = 0.006
"""What a config compiles, asked of an engine's call while all cores compile (gpu/README.md)."""
_SAMPLES = 10


@dataclass(frozen=True)
class Landscape:
    """A model at every batch size from the smallest recorded to the largest, log over log."""

    problems: tuple[Problem, ...]
    space: Space
    us: dict[int, np.ndarray]
    """Tokens → [configs, samples]."""
    recorded: frozenset[int]
    """Tokens that were recorded: the others have no truth to be held against."""
    compile_s: np.ndarray
    """[configs] seconds of one binary, the mean over the space being 1."""

    @cached_property
    def row_of(self) -> dict[AnyConfig, int]:
        return {config: row for row, config in enumerate(self.space.configs)}

    @cached_property
    def typical_us(self) -> dict[int, np.ndarray]:
        """Tokens → [configs] recorded times."""
        return {tokens: np.exp(np.log(us).mean(axis=1)) for tokens, us in self.us.items()}

    def regret(self, tokens: int, config: AnyConfig) -> float:
        """Return the share by which a config is slower than the best there is."""
        times = self.typical_us[tokens]
        return float(times[self.row_of[config]] / times.min() - 1)


@cache
def landscape_of(name: str) -> Landscape:
    """Read a recording. What it gave up early keeps the ratio of its samples to the best's."""
    path = LANDSCAPES / f"{FILES[name]}.npz"
    recording = read_recording(path)
    found = {key.problem.tokens: (key, results) for key, results in recording.studies.items()}
    sizes = sorted(found)
    key = found[sizes[0]][0]
    space = Space(set[Any]().union(*(results for _, results in found.values())))
    logs = np.array([_log_samples(space, found[tokens][1]) for tokens in sizes])
    known = ~np.isnan(logs[:, :, 0])
    for at in range(len(sizes)):  # what was not recorded there is as at the next smaller size
        lack = ~known[at]
        logs[at][lack] = logs[at - 1][lack] + (logs[at][known[at]] - logs[at - 1][known[at]]).mean()
    wanted = [tokens for tokens in BATCH_SIZES if sizes[0] <= tokens <= sizes[-1]]
    places = np.interp(np.log2(wanted), np.log2(sizes), range(len(sizes)))
    us = {}
    for tokens, place in zip(wanted, places, strict=True):
        low, share = int(place), place % 1
        high = min(low + 1, len(sizes) - 1)
        us[tokens] = np.exp((1 - share) * logs[low] + share * logs[high])
    problems = tuple(replace(key.problem, tokens=tokens) for tokens in wanted)
    return Landscape(problems, space, us, frozenset(sizes), _compile_shares(space))


def _log_samples(space: Space, results: Any) -> np.ndarray:
    whole = {
        c: r.measurement.samples_us
        for c, r in results.items()
        if r.measurement and len(r.measurement.samples_us) == _SAMPLES
    }
    best = np.log(min(whole.values(), key=typical_us))
    logs = np.full((len(space), _SAMPLES), np.nan)
    for row, config in enumerate(space.configs):
        result = results.get(config)
        if result is not None and result.measurement is not None:
            own = np.log(result.measurement.samples_us)
            logs[row] = best + (own - best[: len(own)]).mean()
            logs[row, : len(own)] = own
    return logs


def _compile_shares(space: Space) -> np.ndarray:
    """[configs] of how long tiles take to compile: a config's recorded seconds are those of the
    first of its GROUP_SIZE_M, the others were known then."""
    seconds: dict[Config, float] = {}
    for name in ("mixtral", "deepseek"):
        recorded = read_recording(LANDSCAPES / f"{FILES[name]}.npz").compile_s
        for config, s in recorded.items():
            one = replace(config, group_size_m=1)
            if math.isfinite(s):
                seconds[one] = max(seconds.get(one, 0.0), s)
    usual = statistics.median(seconds.values())
    each = [seconds.get(replace(c, group_size_m=1), usual) for c in space.configs]
    capped = np.minimum(each, 5 * usual)
    return capped / capped.mean()


class Time:
    """One worker's clock: the CPU time of its thread, and the waits that were skipped. Only the
    worker that is furthest behind runs."""

    def __init__(self, turns: Turns) -> None:
        self._turns = turns
        self._skipped = 0.0
        turns.clocks.append(self)
        self.is_over = False
        self.may_run = threading.Event()

    def start(self) -> None:
        self._skipped = -time.thread_time()

    @property
    def now(self) -> float:
        return self._skipped + time.thread_time()

    def forget(self, seconds: float) -> None:
        """Take back what a simulation costs."""
        self._skipped -= seconds

    def skip_to(self, at: float) -> None:
        self._skipped += max(at - self.now, 0.0)
        self.behind = self.now
        self._turns.give(self)


class Turns:
    """The order in which the workers of one simulation run."""

    def __init__(self) -> None:
        self.clocks: list[Time] = []

    def give(self, clock: Time, *, is_over: bool = False) -> None:
        """Let the one run that is furthest behind, and wait for the own turn."""
        clock.is_over = is_over
        left = [each for each in self.clocks if not each.is_over]
        if not left:
            return
        following = min(left, key=lambda each: each.behind)
        clock.may_run.clear()
        following.may_run.set()
        if not is_over:
            clock.may_run.wait()


@dataclass
class Gpu:
    """What the workers of one simulation share."""

    landscape: Landscape
    seed: int
    measure_s: float | None = None
    """Seconds of each measurement; None: as long as it took."""
    free_at: float = 0.0
    busy_s: float = 0.0
    finals_s: float = 0.0
    """The part of ``busy_s`` that finals took."""
    verified: set[tuple[str, int, AnyConfig]] = field(default_factory=set)
    prepared: set[tuple[str, Problem]] = field(default_factory=set)
    times: Counter[tuple[str, int, AnyConfig]] = field(default_factory=Counter)
    first_at: float = math.inf
    last_at: float = 0.0


class PretendedChild:
    """A ``Child`` whose calls take pretended time on a GPU. Its link is itself."""

    resident_bytes = 0
    waited_s = 0.0

    def __init__(self, gpu: Gpu, clock: Time, provider: str) -> None:
        self._gpu, self._clock, self._provider = gpu, clock, provider
        self._calls: deque[tuple[float, Call[Any]]] = deque()
        self._answer: tuple[float, Any] | None = None
        self._ended_at = 0.0
        self.process = self.link = self

    def submit(self, call: Call[Any]) -> None:
        self._calls.append((self._clock.now, call))
        self._serve()

    def poll(self) -> bool:
        return self._answer is not None and self._answer[0] <= self._clock.now

    def receive(self) -> Any:
        assert self._answer is not None
        self._ended_at, answer = self._answer
        self._answer = None
        self._calls.popleft()
        self._serve()
        return answer

    @property
    def next_at(self) -> float:
        return math.inf if self._answer is None else self._answer[0]

    def restart(self) -> None:
        raise AssertionError("nothing here fails")

    kill = restart

    def _serve(self) -> None:
        if self._answer is not None or not self._calls:
            return
        began = time.thread_time()
        at, call = self._calls[0]
        start, gpu = max(at, self._ended_at), self._gpu
        if call.method is timed_binaries:
            problem, configs = call.args
            found = tuple(binaries_of(self._provider, problem, c) for c in configs)
            answer: Any = TimedBinaries(found, QUESTION_S * len(configs))
            self._answer = start + answer.seconds, answer
        else:
            start = max(start, gpu.free_at)
            answer, busy_s, other_s = self._measured(call)
            if call.method == "measure":
                answer = replace(answer, turn_s=start - max(at, self._ended_at))
            gpu.free_at = start + busy_s + other_s
            gpu.busy_s += busy_s
            gpu.finals_s += busy_s * (call.method != "measure")
            gpu.first_at = min(gpu.first_at, start)
            gpu.last_at = gpu.free_at
            self._answer = gpu.free_at, answer
        self._clock.forget(time.thread_time() - began)

    def _measured(self, call: Call[Any]) -> tuple[Any, float, float]:
        """Return the answer, and the seconds of measuring and of what comes before."""
        problem: Problem = call.args[0]
        where = self._provider, problem
        other_s = 0.0 if where in self._gpu.prepared else PREPARE_S
        self._gpu.prepared.add(where)
        if call.method == "measure":
            result = self._result(problem, call.args[1], call.kwargs.get("stop"))
            return result, result.verify_s + result.measure_s, other_s
        assert call.method == "measure_interleaved", call.method
        known = self._gpu.verified.copy()
        results = tuple(self._result(problem, config, None) for config in call.args[1])
        results = tuple(
            replace(r, verify_s=LAUNCH_S) if (self._provider, problem.tokens, c) in known else r
            for c, r in zip(call.args[1], results, strict=True)
        )
        return results, sum(r.verify_s + r.measure_s for r in results), other_s

    def _result(self, problem: Problem, config: AnyConfig, stop: Stop | None) -> TrialResult:
        landscape, gpu = self._gpu.landscape, self._gpu
        whole = landscape.us[problem.tokens][landscape.row_of[config]]
        which = self._provider, problem.tokens, config
        gpu.times[which] += 1
        gpu.verified.add(which)
        rng = np.random.default_rng((gpu.seed, gpu.times[which], problem.tokens))
        samples = whole[rng.integers(0, len(whole), len(whole))]
        rows, cut = taken([(float(us),) for us in samples], len(samples), stop)
        measurement = Measurement(
            tuple(row[0] for row in rows), "pretended", extrapolated_us=cut and cut.geomean_us
        )
        return TrialResult(
            Outcome.PRUNED if cut else Outcome.OK,
            measurement,
            reason=cut.reason if cut else "",
            resources=Resources(64, 0, 0),
            verify_s=LAUNCH_S + VERIFY_S if gpu.measure_s is None else 0.0,
            measure_s=gpu.measure_s or sum(map(sample_s, measurement.samples_us)),
        )


def sample_s(us: float) -> float:
    """Return the seconds in which one sample is taken."""
    return (SAMPLE_TIMES if us < REST_FROM_US else RESTED_TIMES) * us / 1e6


def binaries_of(provider: str, problem: Problem, config: Config) -> Binaries:
    """Return an engine's two compiles: Triton tells numbers apart that 16 divides, and vLLM's
    kernel has a form for a few rows."""
    rows = problem.tokens * problem.top_k
    form = f"{rows % 16 == 0} {provider == 'vllm' and 4 * rows <= problem.experts}"
    keys: dict[Which, str] = {"up": f"up {config} {form}", "down": f"down {config} {form}"}
    return {which: LaunchBinary(key, provider, str(config), key) for which, key in keys.items()}


class PretendedPool:
    """An engine's compile pool on pretended cores, over the product's queue."""

    def __init__(self, landscape: Landscape, cores: int, seconds: float) -> None:
        self._cores, self._seconds = cores, seconds
        configs = map(str, landscape.space.configs)
        self._shares = dict(zip(configs, landscape.compile_s, strict=True))
        self._queue: CompileQueue[tuple[PretendedLink, int]] = CompileQueue()
        self._work: list[tuple[float, int, Any]] = []
        self.compiled = 0
        self.compile_s = 0.0

    def take(self, link: PretendedLink, message: Prefetch | CompileRequest, now: float) -> None:
        self.advance(now)
        if isinstance(message, Prefetch):
            self._queue.prefetch(message.problem, message.configs)
        else:
            known = self._queue.request((link, message.number), message.binaries)
            if known is not None:
                link.answers.append((now, (message.number, known)))
        self._hand_out(now)

    @property
    def next_at(self) -> float:
        return self._work[0][0] if self._work else math.inf

    def advance(self, now: float) -> None:
        while self._work and self._work[0][0] <= now:
            at, _, binary = heapq.heappop(self._work)
            result = TimedCompile(Resources(64, 0, 0), 0.0)
            for (link, number), answer in self._queue.note(binary, result):
                link.answers.append((at, (number, answer)))
            self._hand_out(at)

    def _hand_out(self, at: float) -> None:
        while len(self._work) < self._cores and (binary := self._queue.take()) is not None:
            seconds = self._seconds * self._shares[binary.function]
            self.compiled += 1
            self.compile_s += seconds
            heapq.heappush(self._work, (at + seconds, self.compiled, binary))


class PretendedLink:
    """A worker's end of a pool."""

    def __init__(self, pool: PretendedPool, clock: Time) -> None:
        self._pool, self._clock = pool, clock
        self.answers: deque[tuple[float, Any]] = deque()
        """When each is there, and what it is."""

    def send(self, message: Prefetch | CompileRequest) -> None:
        began = time.thread_time()
        self._pool.take(self, message, self._clock.now)
        self._clock.forget(time.thread_time() - began)

    def poll(self) -> bool:
        self._pool.advance(self._clock.now)
        return bool(self.answers) and self.answers[0][0] <= self._clock.now

    def recv(self) -> Any:
        return self.answers.popleft()[1]

    def close(self) -> None:
        pass

    @property
    def next_at(self) -> float:
        return min(self.answers[0][0] if self.answers else math.inf, self._pool.next_at)


class WritesAtOnce(ResultWriter):
    """A ``ResultWriter`` whose time does not count: it has another core."""

    def __init__(self, clock: Time, storage: PretendedStorage) -> None:
        self._clock, self._storage = clock, storage

    def check(self) -> None:
        pass

    close = check

    def tell(self, study: Any, end: Any, then: Any) -> None:
        began = time.thread_time()
        self._write([(study, end, then)])
        self._clock.forget(time.thread_time() - began)
        self._storage.serve(1, self._clock.now)


@dataclass
class PretendedStorage:
    """What a storage does for one worker at a time: half of a trial's cost to begin it, half to
    end it."""

    half_s: float
    free_at: float = 0.0
    busy_s: float = 0.0

    def serve(self, trials: int, now: float) -> float:
        """Return when it is done."""
        self.free_at = max(self.free_at, now) + trials * self.half_s
        self.busy_s += trials * self.half_s
        return self.free_at


def _claim(*words: Any, **more: Any) -> list[Any]:
    asked = claim(*words, **more)
    clock: Time = _local.clock
    clock.skip_to(_local.storage.serve(len(asked), clock.now))
    return asked


class Parent:
    """Asks for the finals of each study that has finished, once, as a run's parent does where
    nobody is done: of the worker that finished it."""

    requested = False
    since_s = 0.0

    def __init__(self, studies: Sequence[TuningStudy], asked: set[int]) -> None:
        """``asked`` is what all workers have asked for."""
        self._studies = studies
        self._asked = asked
        self._waiting: list[int] = []

    def send(self, message: object) -> None:
        if isinstance(message, StudyFinished) and message.position not in self._asked:
            self._asked.add(message.position)
            self._waiting.append(message.position)

    def finals(self) -> list[int]:
        waiting, self._waiting = self._waiting, []
        return waiting


@dataclass(frozen=True, slots=True)
class Ran:
    """What one simulation came to."""

    searched_s: float
    wall_s: float
    """With all finals."""
    busy: float
    """Share of the GPUs' time from the first measurement to the last."""
    search_gpu_s: float
    finals_gpu_s: float
    measured: int
    compiled: int
    compile_s: float
    configs: int
    """Distinct configs that were measured, by engine."""
    regrets: tuple[float, ...]
    causes: str
    """The GPUs' time between first and last measurement of the search, in words."""
    storage: float
    """Share of the search in which the storage was busy, ..."""
    cores: float
    """... and compile processes."""


_local = threading.local()
"""``clock`` of the worker that runs in a thread, and the ``storage``."""


def _pretend() -> None:
    """Let the worker loop wait on the simulated clock."""
    pretended = types.SimpleNamespace(monotonic=lambda: _local.clock.now, sleep=_sleep)
    worker_loop.time = pretended
    worker_loop.claim = _claim
    worker_loop.wait = dispatch.wait = _wait


def _sleep(seconds: float) -> None:
    _local.clock.skip_to(_local.clock.now + seconds)


def _wait(sources: Sequence[Any], timeout: float) -> list[Any]:
    clock: Time = _local.clock
    until = clock.now + timeout
    ready = [source for source in sources if source.poll()]
    while not ready and clock.now < until:
        clock.skip_to(min([until, *(source.next_at for source in sources)]))
        ready = [source for source in sources if source.poll()]
    return ready


def simulate(case: str, seed: int, count: int, args: argparse.Namespace) -> Ran:
    """Run one case on so many GPUs."""
    name, engines = CASES[case]
    landscape = landscape_of(name)
    with tempfile.TemporaryDirectory() as folder:
        storage = f"sqlite:///{folder}/autotune.db"
        settings = RunSettings(
            model=ModelSettings(shape="E=8,topk=2,hidden=512,intermediate=256"),
            device="cuda",
            trials=args.trials,
            stop_gain=args.stop_gain,
            output_dir=Path(folder) / "configs",
            seed=seed,
        )
        plans = [plan for engine in engines for plan in _plans(landscape, engine, settings)]
        plans.sort(key=lambda plan: plan.key.problem.tokens)
        open_studies(open_storage(storage, create=True), plans, settings)
        return _run(_Order(landscape, engines, plans, settings, storage), count, args)


@dataclass(frozen=True, slots=True)
class _Order:
    """What a simulation's workers start with."""

    landscape: Landscape
    engines: tuple[str, ...]
    plans: Sequence[StudyPlan]
    settings: RunSettings
    url: str


def _plans(landscape: Landscape, engine: str, settings: RunSettings) -> list[StudyPlan]:
    spec = find_spec("NVIDIA H200")
    method = f"{engine} 0: whole layer, 4, cold L2"
    device = Device(DeviceKind.CUDA, spec.name, spec.target, spec.shared_per_block, "3.6.0", method)
    found = []
    for problem in landscape.problems:
        space = Space(c for c in moe_space(problem, device).configs if c in landscape.space)
        job = Job(problem, (ENGINES[engine],), engine)
        default = ENGINES[engine].launched(problem, ENGINES[engine].default_config(problem, device))
        own = default if default in space else None
        key = StudyKey(problem, device, space.fingerprint)
        prior = _prior(problem, space.configs, seed=0)
        incumbents = job.incumbents(device, settings.output_dir, own)
        found.append(StudyPlan(job, key, space, prior, incumbents))
    return found


@cache
def _prior(problem: Problem, configs: tuple[Config, ...], seed: int) -> tuple[float, ...]:
    return static_us(problem, configs, find_spec("NVIDIA H200"), seed)


def _run(order: _Order, count: int, args: argparse.Namespace) -> Ran:
    _pretend()
    landscape = order.landscape
    turns, asked = Turns(), set[int]()
    measure_s = args.measure_ms and args.measure_ms / 1000
    gpus = [Gpu(landscape, order.settings.seed, measure_s) for _ in range(count)]
    storage = PretendedStorage(args.storage_ms / 2000)
    seconds = 0.02 if args.warm else args.compile_s
    cores = CORES * count // len(order.engines)
    pools = {engine: PretendedPool(landscape, cores, seconds) for engine in order.engines}
    pairs = itertools.product(enumerate(gpus), order.engines)
    workers = [
        _Worker(number, f"{place} {engine}", gpu, pools[engine], turns=turns, storage=storage)
        for number, ((place, gpu), engine) in enumerate(pairs)
    ]
    threads = [threading.Thread(target=w.run, args=(order, asked)) for w in workers]
    for thread in threads:
        thread.start()
    while any(not hasattr(clock, "behind") for clock in turns.clocks):
        time.sleep(0.01)
    turns.clocks[0].may_run.set()
    for thread in threads:
        thread.join()
    for worker in workers:
        if worker.error is not None:
            raise worker.error
    own = [(w, s) for w in workers[: len(order.engines)] for s in w.own]
    for _, study in own:
        study.view.read()
        study.finalists = attributes_of(study.optuna_study).finalists(
            len(study.measured), study.robust
        )
    assert all(len(s.results()) == 1 for _, s in own)
    if args.verbose:
        for worker, study in own:
            result = study.results()[0]
            regret = landscape.regret(study.problem.tokens, result.config)
            print(f"  {worker.engine} {study.problem.tokens:5} {len(study.measured):3} "
                  f"{result.config!s:30} {regret:.2%} {study.ended}")  # fmt: skip
    searched_s = max(worker.searched_s for worker in workers)
    compile_s = sum(pool.compile_s for pool in pools.values())
    return Ran(
        searched_s=searched_s,
        wall_s=max(worker.wall_s for worker in workers),
        busy=sum(g.busy_s for g in gpus) / sum(g.last_at - g.first_at for g in gpus),
        search_gpu_s=sum(g.busy_s - g.finals_s for g in gpus),
        finals_gpu_s=sum(g.finals_s for g in gpus),
        measured=sum(len(study.measured) for _, study in own),
        compiled=sum(pool.compiled for pool in pools.values()),
        compile_s=compile_s,
        configs=len({(w.engine, e.config) for w, s in own for e in s.measured}),
        regrets=tuple(
            landscape.regret(s.problem.tokens, s.results()[0].config)
            for _, s in own
            if s.problem.tokens in landscape.recorded
        ),
        causes=shares_words(shares_of({w.name: w.device_time for w in workers})),
        storage=storage.busy_s / searched_s,
        cores=compile_s / searched_s / (CORES * count),
    )


class _Worker:
    """One engine's worker on a GPU, in a thread."""

    def __init__(
        self,
        number: int,
        name: str,
        gpu: Gpu,
        pool: PretendedPool,
        *,
        turns: Turns,
        storage: PretendedStorage,
    ) -> None:
        self.number, self.name, self._turns = number, name, turns
        self.engine = name.partition(" ")[2]
        self._gpu, self._pool, self._storage = gpu, pool, storage
        self.clock = Time(turns)
        self.error: BaseException | None = None

    def run(self, *args: Any) -> None:
        try:
            self._run(*args)
        except BaseException as error:  # noqa: BLE001  told by the main thread
            self.error = error
        finally:
            self.clock.behind = math.inf
            self._turns.give(self.clock, is_over=True)

    def _run(self, order: _Order, asked: set[int]) -> None:
        clock = _local.clock = self.clock
        _local.storage = self._storage
        storage = open_storage(order.url, create=False)
        studies = join_studies(
            storage, order.plans, order.settings, worker=self.number, compiled=None
        )
        mine = [i for i, plan in enumerate(order.plans) if plan.job.provider == self.engine]
        self.own = [studies[position] for position in mine]
        child = PretendedChild(self._gpu, clock, self.engine)
        with Lease(storage, f"cuda:{self.number}") as lease:
            worker = worker_loop.Worker(
                studies,
                child,
                lease=lease,
                census=Census(storage),
                parent=Parent(studies, asked),
                run_timeout_s=1e9,
                start_at=self.number,
                compiles=CompileClient(PretendedLink(self._pool, clock)),
                asks_child=True,
                own=mine,
                time_line=TimeLine(lambda: clock.now),
            )
            worker._result_writer = WritesAtOnce(clock, self._storage)
            thread_pools()  # a worker's process imports these libraries while the device opens
            clock.behind = 0.0
            clock.may_run.wait()
            clock.start()
            self.device_time = worker.run().device_time
        self.searched_s = clock.now
        for position in mine:
            if position not in asked:
                asked.add(position)
                studies[position].view.read()
                measure_finalists(studies[position], child, lambda: False, 1e9)
        self.wall_s = clock.now


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--cases", nargs="+", default=["qwen3", "qwen3-both", "deepseek"],
                        choices=CASES)  # fmt: skip
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--gpus", type=int, nargs="+", default=[1])
    parser.add_argument("--measure-ms", type=float, help="of each measurement (what it took)")
    parser.add_argument("--storage-ms", type=float, default=0.0, help="of a trial, one at a time")
    parser.add_argument("--compile-s", type=float, default=0.6, help="of a binary, in the mean")
    parser.add_argument("--warm", action="store_true", help="everything is in Triton's cache")
    parser.add_argument("--trials", type=int, default=60)
    parser.add_argument("--stop-gain", type=float, default=0.005)
    parser.add_argument("--verbose", action="store_true")
    args = parser.parse_args()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    print("| case | seed | search | with finals | GPU busy | search + finals | measured | configs "
          "| compiled | regret, mean | most | compile processes, storage busy | in the search "
          "|")  # fmt: skip
    print("|---" * 13 + "|", flush=True)
    for case, count in itertools.product(args.cases, args.gpus):
        name, rans = f"{case} x {count}" if len(args.gpus) > 1 else case, []
        for seed in range(args.seeds):
            rans.append(simulate(case, seed, count, args))
            print(_line(name, str(seed), [rans[-1]]), flush=True)
        if len(rans) > 1:
            print(_line(name, "mean", rans), flush=True)


def _line(case: str, seed: str, rans: Sequence[Ran]) -> str:
    def mean(name: str) -> float:
        return statistics.fmean(getattr(ran, name) for ran in rans)

    regrets = [regret for ran in rans for regret in ran.regrets]
    return (
        f"| {case} | {seed} | {mean('searched_s'):.1f} s | {mean('wall_s'):.1f} s "
        f"| {mean('busy'):.0%} | {mean('search_gpu_s'):.1f} + {mean('finals_gpu_s'):.1f} s "
        f"| {mean('measured'):.0f} | {mean('configs'):.0f} "
        f"| {mean('compiled'):.0f} in {mean('compile_s'):.0f} s "
        f"| {statistics.fmean(regrets):.2%} | {max(regrets):.2%} "
        f"| {mean('cores'):.0%}, {mean('storage'):.0%} "
        f"| {rans[0].causes if len(rans) == 1 else ''} |"
    )


if __name__ == "__main__":
    main()
