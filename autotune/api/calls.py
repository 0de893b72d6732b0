"""``tune`` and ``load``: what commands do, for Python callers."""

from __future__ import annotations

import multiprocessing
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any, Literal

from autotune.api.asked import model_asked, run_asked
from autotune.api.checks import EngineName, check_choice
from autotune.api.defaults import DEFAULT_OUTPUT, default_storage
from autotune.api.progress import LogDisplay, ProgressCallback, ProgressTeller
from autotune.api.result import Result, StoredResult
from autotune.api.runs import run_tuning
from autotune.backends.gpu.providers import AUTO, TUNABLE
from autotune.engines import DEFAULT_TOKENS, ENGINES
from autotune.errors import UsageError
from autotune.settings import ALL_GPUS, ModelSettings
from autotune.shown import counted
from autotune.spec.problem import KernelMode
from autotune.studies.search.samplers import SAMPLERS
from autotune.studies.selection.select import Robust

DtypeName = Literal[
    "auto", "bf16", "fp16", "fp32", "fp8_w8a8", "int8_w8a8", "int8_w8a16", "int4_w4a16"
]
"""The words of ``Dtype``, and the model's own."""
BOTH: tuple[EngineName, ...] = ("sglang", "vllm")
_GOES_ON = (
    "Nothing that was stored is lost: the same call goes on, and autotune.load() has what was found"
)
_CHOICES: Mapping[str, Iterable[str]] = {
    "kernel": tuple(KernelMode),
    "provider": (AUTO, *TUNABLE),
    "engines": tuple(ENGINES),
    "l2": ("cold", "warm"),
    "sampler": tuple(SAMPLERS),
    "robust": tuple(Robust),
}
"""Keyword → the words that it may have."""


def tune(
    model: str | ModelSettings | Sequence[str | ModelSettings] | None = None,
    *,
    shape: str | None = None,
    tp_size: int = 1,
    ep_size: int = 1,
    ep_rank: int | None = None,
    dtype: DtypeName = "auto",
    ep_num_redundant_experts: int = 0,
    per_channel_quant: bool = False,
    disable_shared_experts_fusion: bool = False,
    batch_sizes: Sequence[int] | str = DEFAULT_TOKENS,
    batch_weights: Sequence[float] = (),
    routing: str | None = None,
    topk_ids_dir: str | Path | None = None,
    engine_sources: Sequence[str | Path] = (),
    device: str = "auto",
    kernel: Literal["fused", "separate"] = "fused",
    provider: Literal["auto", "autotune", "sglang", "vllm"] = "auto",
    engines: EngineName | Sequence[EngineName] = BOTH,
    l2: Literal["cold", "warm"] = "cold",
    timeout_s: float | None = None,
    run_timeout_s: float = 120.0,
    cache_dir: str | Path | None = None,
    jobs: int | None = None,
    seed: int = 0,
    trials: int = 60,
    sampler: Literal["surrogate", "tpe", "gp", "random", "grid"] = "surrogate",
    stop_gain: float = 0.005,
    robust: Literal["mean", "worst"] = "mean",
    output_dir: str | Path = DEFAULT_OUTPUT,
    warm_starts: Sequence[str | Path] = (),
    gpus: str = ALL_GPUS,
    compile_jobs: int | None = None,
    compile_timeout_s: float = 60.0,
    storage: str | Path | None = None,
    ray_address: str | None = None,
    progress: ProgressCallback | None = None,
) -> Result:
    """Tune a model's MoE layer at each batch size, and write the engines' files: ``autotune run``.

    What the storage has already is not measured again: the same call goes on where an earlier one,
    or ``autotune run``, was ended. Every keyword is the flag of that name, which ``autotune run
    --help`` explains; these differ:

    model: a catalogue name, Hugging Face name, folder or config.json; or several, which are tuned
        side by side. A ``ModelSettings`` says itself how its model is split, and at which batch
        sizes; the keywords say it of names.
    batch_sizes: token counts of a step; or "auto:FILE", those that a server ran by its log.
    batch_weights: the share of a server's time that each batch size stands for.
    routing: None for uniform, or for the recording in ``topk_ids_dir``.
    engines: whose files are written; one name, or several.
    timeout_s: seconds from the first measurement; what is missing then is ``Result.unfinished``.
    jobs: ``--workers``; None for one on each core where times are estimated.
    warm_starts: ``--warm-start``.
    storage: a file, "journal:FILE" or a PostgreSQL URL; None for what AUTOTUNE_STORAGE says, else
        autotune.db in the current folder.
    ray_address: the Ray cluster whose nodes have the workers ("auto": the one of this machine);
        None for this machine without Ray.
    progress: is called with a ``Progress`` when a trial or a study ends, by this thread. What it
        raises ends the run and comes out of here; all that was measured is stored.

    Nothing is printed: the logger "autotune" says what goes on (Python shows its warnings on stderr
    where no logging is set up). The measuring is done in processes
    that import nothing of the caller's: a script needs no ``if __name__ == "__main__"``.

    Raises AutotuneError for what the caller can mend. On Ctrl-C it finishes what runs, stores and
    writes all, and raises KeyboardInterrupt; a second one does not wait for what runs. In another
    than the main thread Ctrl-C does not reach it: there ``progress`` may raise.
    """
    asked = dict(locals())
    if isinstance(engines, str):
        asked["engines"] = (engines,)
    if shape is not None and not isinstance(shape, str):
        raise UsageError(
            f"shape={shape!r:.100}: give it in words, as "
            'shape="E=8,topk=2,hidden=4096,intermediate=14336"'
        )
    _check_choices(asked)
    if multiprocessing.current_process().daemon:
        raise UsageError(
            "tune() starts processes, which Python refuses to a daemon process, as each of a "
            "multiprocessing.Pool is. Call it from a process without daemon=True"
        )
    settings = run_asked(_models(asked), asked)
    try:
        report = run_tuning(
            settings,
            _named(storage),
            LogDisplay(),
            *([ProgressTeller(progress)] if progress else []),
            ray_address=ray_address,
            is_our_process=False,
        )
    except KeyboardInterrupt as error:  # before it searched, or the second one
        if error.args:
            raise
        raise KeyboardInterrupt(_GOES_ON) from None
    if report.interrupted:
        words = counted(report.unfinished, "study is", "studies are")
        raise KeyboardInterrupt(f"{words} not finished. {_GOES_ON}")
    return Result.of(settings, report)


def load(storage: str | Path | None = None, *, model: str | None = None) -> StoredResult:
    """Read what a storage has, also while a run goes on: ``autotune best`` and ``autotune status``.

    storage: as ``tune`` has it. model: only its studies, by the name that it was tuned under.

    Raises AutotuneError where there is no such storage, or nothing in it.
    """
    return StoredResult.read(_named(storage), model)


def _named(storage: str | Path | None) -> str:
    return default_storage() if storage is None else str(storage)


def _models(asked: Mapping[str, Any]) -> list[ModelSettings]:
    """Return the settings of each model that was asked for; keywords say how names are split."""
    model = asked["model"]
    each = [model] if model is None or isinstance(model, str | ModelSettings) else list(model)
    if not each:
        raise UsageError("model=[]: name one model at least")
    if any(isinstance(one, ModelSettings) for one in each):
        _check_alone(asked)
    found = (
        model_asked(asdict(one) if isinstance(one, ModelSettings) else {**asked, "model": one})
        for one in each
    )
    return list(dict.fromkeys(found))


def _check_alone(asked: Mapping[str, Any]) -> None:
    """Raise UsageError for a keyword of a layer beside a ModelSettings, which has its own."""
    unsaid = {"routing": None}
    for field in fields(ModelSettings):
        value, default = asked[field.name], unsaid.get(field.name, field.default)
        if field.name != "model" and value != default:
            raise UsageError(
                f"{field.name}={value!r} beside model=ModelSettings(…): say it in the ModelSettings"
            )


def _check_choices(asked: Mapping[str, Any]) -> None:
    for name, allowed in _CHOICES.items():
        for word in (asked[name],) if isinstance(asked[name], str) else asked[name]:
            check_choice(name, word, allowed)
