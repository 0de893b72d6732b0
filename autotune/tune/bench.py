"""``bench``: times of given configs, without tuning and without a storage."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from autotune.devices import open_measurer
from autotune.engines import read_configs
from autotune.errors import EngineFileError
from autotune.kernels.config import Config
from autotune.kernels.device import Device
from autotune.settings import RunSettings
from autotune.studies.outcome import Outcome, TrialResult
from autotune.tune.child import Child, ChildFault
from autotune.tune.plan import Job, jobs_of, model_shape
from autotune.tune.remote import RemoteMeasurer


@dataclass(frozen=True, slots=True)
class Timed:
    """One config on one batch size, and where the config came from."""

    tokens: int
    source: str
    config: Config
    result: TrialResult


def bench(
    settings: RunSettings, configs: Sequence[Config], files: Sequence[Path]
) -> tuple[Device, list[Timed]]:
    """Measure ``configs`` and what ``files`` say for each batch size; the engines' defaults
    where neither is given. Raises DeviceError where the device cannot be used at all."""
    shape = model_shape(settings.model)
    tables = {str(path): _table(path) for path in files}
    child = Child(partial(open_measurer, settings.device, settings.measurer_options))
    try:
        device = RemoteMeasurer(child).device
        rows = [
            Timed(job.problem.tokens, source, config, _measure(child, job, config))
            for job in jobs_of(shape, settings.model, settings.engines)
            for source, config in _candidates(job, device, configs, tables)
        ]
    finally:
        child.close()
    return device, rows


def _candidates(
    job: Job, device: Device, configs: Sequence[Config], tables: dict[str, dict[int, Config]]
) -> Iterator[tuple[str, Config]]:
    for config in configs:
        yield "--configs", config
    for source, table in tables.items():
        yield source, table[min(table, key=lambda key: abs(key - job.problem.tokens))]
    if not configs and not tables:
        for engine in job.engines:
            yield f"{engine.name} default", engine.default_config(job.problem, device)


def _table(path: Path) -> dict[int, Config]:
    table = read_configs(path)
    if not table:
        raise EngineFileError(f"{path} holds no config; an engine file has one per token count")
    return table


def _measure(child: Child, job: Job, config: Config) -> TrialResult:
    measurer = RemoteMeasurer(child)
    why = measurer.space(job.problem).why_not(config)
    if why is not None:
        return TrialResult(Outcome.INFEASIBLE, reason=why)
    child.submit("measure", job.problem, config)
    answer = child.receive()
    if isinstance(answer, ChildFault):
        child.restart()
        return TrialResult(Outcome.CRASHED, reason=answer.reason)
    assert isinstance(answer, TrialResult)
    return answer
