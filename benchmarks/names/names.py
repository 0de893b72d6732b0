"""Our file names of published configs beside those that the engines' own code makes.

    python benchmarks/names/names.py --engine-source FOLDER ... --configs FOLDER

Each FOLDER of ``--engine-source`` is an engine's wheel, or holds its package as it unpacks it.
With ``--before`` what those of other versions say otherwise is listed. Exits with 1
where a name differs, or where one side alone refuses.
"""

from __future__ import annotations

import argparse
import json
import logging
import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from ours import our_name
from theirs import SGLangCode, VLLMCode, engines_in, their_name

from autotune.engines.own_code.pieces import NotFoundError
from autotune.engines.own_code.question import RefusalError, text_part
from autotune.errors import AutotuneError

TP_SIZES = (1, 2, 4, 8, 16)
EXPERTS = ("n_routed_experts", "num_experts", "num_local_experts", "moe_num_experts")
NOT_ASKED = "not looked up here"
WRONG = ("different", "only we refuse", "only they refuse")


@dataclass(frozen=True)
class Row:
    """One case: what each side says, a file's name or the reason that there is none."""

    model: str
    engine: str
    tp: int
    ep: int
    ours: str
    theirs: str
    verdict: str


def compare(
    config_file: Path,
    engine: str,
    code: VLLMCode | SGLangCode,
    tp: int,
    ep: int,
    *,
    redundant: int = 0,
) -> Row:
    config = json.loads(config_file.read_text(encoding="utf-8"))
    beside = config_file.with_name("hf_quant_config.json")
    sidecar = json.loads(beside.read_text(encoding="utf-8")) if beside.exists() else None
    we, they = True, True
    try:
        theirs = their_name(code, config, sidecar, tp, ep, redundant=redundant)
    except RefusalError as refusal:
        they, theirs = False, str(refusal)
    except (NotFoundError, NameError, AttributeError, KeyError) as unknown:
        text = f"{type(unknown).__name__}: {unknown}"  # a piece that lacks a stand-in here
        return Row(config_file.parent.name, engine, tp, ep, "", text, NOT_ASKED)
    try:
        ours = our_name(config_file, engine, tp, ep, redundant)
    except AutotuneError as error:
        we, ours = False, str(error)
    verdict = {
        (True, True): "equal" if ours == theirs else "different",
        (False, False): "both refuse",
        (False, True): "only we refuse",
        (True, False): "only they refuse",
    }[we, they]
    return Row(config_file.parent.name, engine, tp, ep, ours, theirs, verdict)


def splits_of(config_file: Path) -> Iterator[tuple[int, int]]:
    """Yield (TP, EP), as SGLang's flags count them: EP parts of TP ranks, of equal sizes."""
    text = text_part(json.loads(config_file.read_text(encoding="utf-8")))
    experts = next((text[name] for name in EXPERTS if isinstance(text.get(name), int)), 1)
    parts = [ep for ep in TP_SIZES if experts % ep == 0]
    yield from ((tp, ep) for tp in TP_SIZES for ep in parts if tp % ep == 0)


def rows(files: Sequence[Path], engines: Mapping[str, VLLMCode | SGLangCode]) -> Iterator[Row]:
    for file in files:
        for name, code in engines.items():
            yield from (compare(file, name, code, tp, ep) for tp, ep in splits_of(file))


def changes(before: Sequence[Row], now: Sequence[Row]) -> Iterator[str]:
    """Yield what an engine's code says now where another version of it said something else."""
    said = {(row.model, row.engine, row.tp, row.ep): row.theirs for row in before}
    for row in now:
        was = said.get((row.model, row.engine, row.tp, row.ep), row.theirs)
        if was != row.theirs:
            head = f"{row.engine} changed {row.model} TP{row.tp} EP{row.ep}"
            yield f"{head}\n    before {was[:200]}\n    now    {row.theirs[:200]}"


def published(folder: Path) -> list[Path]:
    return sorted(folder.glob("*/config.json"))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--engine-source", type=Path, nargs="+", required=True)
    parser.add_argument("--configs", type=Path, required=True, help="folders with a config.json")
    parser.add_argument("--before", type=Path, nargs="+", help="other versions, to list changes")
    parser.add_argument("--rows", action="store_true", help="all rows, not those alone that differ")
    args = parser.parse_args()
    logging.disable(logging.WARNING)
    engines = engines_in(args.engine_source)
    table = list(rows(published(args.configs), engines))
    for row in table:
        if args.rows or row.verdict in WRONG:
            head = f"{row.model} TP{row.tp} EP{row.ep} {row.engine}: {row.verdict}"
            print(f"{head}\n    ours   {row.ours[:200]}\n    theirs {row.theirs[:200]}")
    if args.before:
        then = list(rows(published(args.configs), engines_in(args.before)))
        print(*changes(then, table), sep="\n")
    for engine in engines:
        counts = Counter(row.verdict for row in table if row.engine == engine)
        print(f"{engine}: " + ", ".join(f"{n} {v}" for v, n in counts.most_common()))
    for engine, code in engines.items():
        print(f"run of {engine}:", *sorted(code.source.used), sep="\n    ")
    return int(not engines or any(row.verdict in WRONG for row in table))


if __name__ == "__main__":
    sys.exit(main())
