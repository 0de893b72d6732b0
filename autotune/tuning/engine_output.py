"""Engine files made from studies: every requested batch size, nothing wrong, nothing slower."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path

from autotune.backends.estimate.margin import margin_of
from autotune.backends.stand_in import MeasuredKernel, measured_kernel
from autotune.engines import Engine, WrittenFile, held, read_configs, write_configs
from autotune.engines.read_write import backup
from autotune.spec.config import AnyConfig, Config, ConfigPair, pair_of
from autotune.spec.device import Device, DeviceKind
from autotune.spec.problem import KernelMode, Problem
from autotune.studies.pairs import completed_as_asked
from autotune.studies.search.history import Known
from autotune.studies.selection.finalists import Finalist
from autotune.studies.selection.select import Robust, Winner, beats, select_winner
from autotune.studies.trial_record import TrialRecord
from autotune.tuning.filled import by_itself, filled, filled_words
from autotune.tuning.jobs import BASELINES, Incumbent, Origin, files_dir, may_write, present_in


@dataclass(frozen=True)
class Result:
    """The answer of one study to one engine."""

    engine: Engine
    problem: Problem
    device: Device
    measured: tuple[TrialRecord, ...]
    incumbents: tuple[Incumbent, ...]
    """Configs that users of this engine have today; what counts least comes first."""
    finalists: tuple[Finalist, ...] = ()
    """Configs that were measured again, interleaved; empty where none were."""
    robust: Robust = Robust.MEAN

    @property
    def kernel(self) -> MeasuredKernel | None:
        """The kernel that was measured for the engine; None where nothing was measured."""
        return measured_kernel(self.engine, self.problem, self.device)

    def folder(self, output_dir: Path) -> Path:
        """Return the folder of its file, see ``files_dir``."""
        return files_dir(output_dir, self.engine, self.problem, self.device)

    @property
    def default(self) -> AnyConfig | None:
        """The config that the engine launches by itself where its kernel is measured, else the one
        without any file; None where it is not known."""
        origin = self.default_origin
        return next((known.config for known in self.incumbents if known.origin is origin), None)

    @property
    def default_origin(self) -> Origin | None:
        """Where ``default`` comes from; None where it is not known."""
        origins = {incumbent.origin for incumbent in self.incumbents}
        return next((origin for origin in BASELINES if origin in origins), None)

    @cached_property
    def winner(self) -> Winner | None:
        """The config that the engine can launch and that loses to no incumbent of its; where the
        worst loss counts, to its default. Finalists decide, where there are any. An estimate must
        gain more than the model errs."""
        finalists = [one for one in self.finalists if self._is_legal(one.config)]
        trials = [e for e in self.measured if e.complete and self._is_legal(e.config)]
        known = self._known_without_estimate(trials)
        return select_winner(
            finalists or trials,
            {known} if known else {incumbent.config for incumbent in self.incumbents},
            finalists[0].routings if finalists else len(self.problem.routings),
            robust=self.robust,
            default=known or self.default,
            with_interval=bool(finalists),
            margin=margin_of(self.problem, self.device.target) if known else 0.0,
        )

    @property
    def default_us(self) -> float | None:
        """Time of the engine's default; None where it was not measured."""
        complete = (entry for entry in self.measured if entry.complete)
        timed: list[Finalist | TrialRecord] = [*self.finalists, *complete]
        return next((entry.geomean_us for entry in timed if entry.config == self.default), None)

    @property
    def config(self) -> AnyConfig:
        """The config to write: the winner, else what the user's file had, else the default."""
        winner = self.winner
        if winner:
            return winner.config
        files = (known.config for known in self.incumbents if known.origin is Origin.FILE)
        return next(files, self.incumbents[-1].config)

    @property
    def is_kept(self) -> bool | None:
        """True where ``config`` is what the user has today, which nothing beat; None where nothing
        was timed, so that nobody knows."""
        return self.winner.is_incumbent if self.winner else None

    @property
    def is_writable(self) -> bool:
        """False where the engine's own launch, which no file can say, is not beaten by now: then
        the engine does best without a file. One that failed in the finals is."""
        if self.default is None or self._is_legal(self.default):
            return True
        known = {one.config: one for one in self.finalists}
        own, ours = known.get(self.default), known.get(self.config)
        return ours is not None and (own is None or beats(ours, own, ours.routings))

    def _known_without_estimate(self, trials: Iterable[TrialRecord]) -> AnyConfig | None:
        """Return, of a study of estimates, what the engine launches without our file: only a gain
        beyond the model's error replaces it. None where no trial has it, and where times are
        measured."""
        if self.device.kind is not DeviceKind.ESTIMATE:
            return None
        timed = {entry.config for entry in trials}
        own = [known.config for known in self.incumbents if known.origin is not Origin.FILE]
        return next((config for config in reversed(own) if config in timed), None)

    def leaves_entry(self, folder: Path) -> bool:
        """True where the folder's file has an entry that was not compared yet: the run was ended
        before, or another one has tuned it. Incumbents are measured first, so whatever else was
        measured tells that it was."""
        measured = {entry.config for entry in self.measured}
        if not measured <= {incumbent.config for incumbent in self.incumbents}:
            return False
        there = present_in(folder, self.engine, self.problem, self.device)
        return there is not None and there not in measured and self._is_legal(there)

    def knows_entry(self, folder: Path) -> bool:
        """False where the folder's file has an entry that the study never timed: another storage's,
        or one that its space lacks. What it would write, and what the engine launches without the
        file, are no loss."""
        kernel = KernelMode.SEPARATE if self.engine.has_down_file else self.problem.kernel
        problem = replace(self.problem, kernel=kernel)
        there = present_in(folder, self.engine, problem, self.device)
        others = (one.config for one in self.incumbents if one.origin is not Origin.FILE)
        own = by_itself(self.engine, self.problem, self.device)
        known = {self.config, own or self.config, *(e.config for e in self.measured), *others}
        as_read = (completed_as_asked(problem, self.device, config) for config in known)
        return there is None or not self._is_legal(there) or there in as_read

    @property
    def is_beaten_by_a_pair(self) -> bool:
        """True where one config for both GEMMs was searched, and the engine's own pair stays."""
        return self.problem.kernel is KernelMode.FUSED and isinstance(self.config, ConfigPair)

    def _is_legal(self, config: AnyConfig) -> bool:
        return may_write(self.engine, self.problem, self.device, config)


def results_of(
    study: Known, engines: Iterable[Engine], incumbents: Iterable[Incumbent]
) -> list[Result]:
    """Return what a study has to say to each engine."""
    incumbents = tuple(incumbents)
    return [
        Result(
            engine,
            study.key.problem,
            study.key.device,
            tuple(study.measured),
            tuple(known for known in incumbents if known.engine == engine.name),
            tuple(study.finalists),
            study.robust,
        )
        for engine in engines
    ]


def write_files(
    results: Iterable[Result], output_dir: Path, *, is_final: bool = True
) -> list[WrittenFile]:
    """Write, or merge into, one file per engine and problem without its batch size, and the one
    for the down GEMM where the engine has such: without it SGLang takes one of another Triton
    version, wherever the files are copied to. Each is in the folder that tells what it comes from.
    Where an engine has a file it launches nothing by itself, but takes the nearest batch size's
    entry: then every batch size gets its own, also those that were not tuned (``filled``). Where
    nothing was measured for a file, it is not touched, nor an entry of it that was not compared.
    One that no study here will compare is replaced by ``is_final`` results alone, and then the file
    of before is kept as ``<name>.bak`` (``.bak2``, …). Names say neither H nor top-k: of layers
    that share one, the first has the file.

    Raises EngineFileError where a file cannot be written; files before it are complete.
    """
    files: dict[Path, list[Result]] = {}
    for result in results:
        engine, problem, device = result.engine, result.problem, result.device
        if not result.is_writable and not may_write(engine, problem, device, result.config):
            continue
        path = engine.path(result.folder(output_dir), problem, device)
        files.setdefault(path, []).append(result)
    written = []
    for path, group in files.items():
        of_one = [r for r in group if _layer(r.problem) == _layer(group[0].problem)]
        if not any(result.measured for result in of_one):
            continue
        if path.exists() or any(result.is_writable for result in of_one):
            notes = tuple(_notes_on_others(path, group))
            with held(path):
                files_now = list(_write(path, of_one, group[0].folder(output_dir), is_final))
            written += [replace(file, notes=(*file.notes, *notes)) for file in files_now]
    return written


def _layer(problem: Problem) -> Problem:
    """Equal for what entries of one file may be for."""
    return replace(problem, tokens=0, routing="", ep_rank=0, kernel=KernelMode.FUSED)


def _notes_on_others(path: Path, group: Sequence[Result]) -> Iterator[str]:
    """Say which layers have no entries in the file that the engine opens for them too."""
    first, *others = dict.fromkeys(_layer(result.problem) for result in group)
    for other in others:
        yield (
            f"{group[0].engine.title} opens {path.name} for H={other.hidden}, top-k {other.top_k}, "
            f"too, whose configs are not in it: it has those for H={first.hidden}, top-k "
            f"{first.top_k}. Export or tune each model into an --output-dir of its own"
        )


def _write(
    path: Path, group: Sequence[Result], folder: Path, is_final: bool
) -> Iterator[WrittenFile]:
    engine, problem, device = group[0].engine, group[0].problem, group[0].device
    results = {r.problem.tokens: r for r in group if not r.leaves_entry(folder)}
    unknown = [tokens for tokens, result in results.items() if not result.knows_entry(folder)]
    tuned = {
        tokens: pair_of(result.config)
        for tokens, result in results.items()
        if is_final or tokens not in unknown
    }
    if not tuned:
        return
    down_path = engine.path(folder, problem, device, down=True) if engine.has_down_file else path
    before = _table(path), _table(down_path)
    notes = [_backed_up(unknown, path, down_path)] if unknown and is_final else []
    pairs = tuned | filled(engine, problem, device, tuned, before)
    ups = {tokens: pair.up for tokens, pair in pairs.items()}
    if not engine.has_down_file:
        yield _told(write_configs(engine, path, ups, problem, device), group, tuned, notes)
        return
    downs = {tokens: pair.down for tokens, pair in pairs.items()}
    legal = partial(may_write, engine, problem, device)
    lacking_in_down = _lacking(_table(path) | ups, _table(down_path) | downs)
    lacking_in_up = _lacking(_table(down_path) | downs, _table(path) | ups)
    ups |= {tokens: c for tokens, c in lacking_in_up.items() if legal(c)}
    downs |= {tokens: c for tokens, c in lacking_in_down.items() if legal(c)}
    yield _told(write_configs(engine, path, ups, problem, device), group, tuned, notes)
    file = write_configs(engine, down_path, downs, problem, device)
    yield replace(file, written=tuple(sorted(tuned)))


def _backed_up(tokens: Iterable[int], path: Path, down_path: Path) -> str:
    names = dict.fromkeys(backup(each) for each in (path, down_path) if each.exists())
    return (
        f"{path.name} had entries for {', '.join(map(str, tokens))} tokens that were not compared "
        f"with what replaces them: the file as it was is kept as {' and '.join(names)}"
    )


def _told(
    file: WrittenFile, group: Sequence[Result], tuned: Collection[int], more: Iterable[str]
) -> WrittenFile:
    """Tell what was tuned from what is there for other batch sizes, and ``more``."""
    one = group[0]
    words = filled_words(one.engine, one.problem, one.device, tuned, _table(file.path))
    notes = (*file.notes, *([f"{file.path.name}: {words}"] if words else []), *more)
    return replace(file, written=tuple(sorted(tuned)), notes=notes)


def _lacking(have: Mapping[int, Config], other: Mapping[int, Config]) -> dict[int, Config]:
    """Return the entries that the other file of a pair lacks: the same, without TMA.

    SGLang looks each file up by its own nearest key. Where one lacks a key it would take a
    neighbour's, with another BLOCK_SIZE_M than the alignment that both GEMMs share.
    """
    return {
        tokens: replace(config, use_tma=None)
        for tokens, config in have.items()
        if tokens not in other
    }


def _table(path: Path) -> dict[int, Config]:
    return read_configs(path) if path.exists() else {}
