"""Our file names of the catalogue's models beside those that the engines' own code makes."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

SPLITS = ((1, 1), (2, 1), (8, 1), (8, 2), (8, 8), (16, 1))
ROOT = Path(__file__).parents[2]
FILES = {
    "catalogue": [ROOT / "autotune" / "models" / "catalogue" / "models.jsonl"],
    "configs": sorted((ROOT / "tests" / "models" / "configs").glob("*.jsonl")),
}
"""A model a line, as the catalogue keeps them."""

sys.path.insert(0, str(ROOT / "benchmarks" / "names"))
import names  # noqa: E402
from theirs import RefusalError, engines_in, read_case  # noqa: E402


@pytest.mark.parametrize("name", ["vllm", "sglang"])
@pytest.mark.parametrize("source", FILES)
def test_names_are_those_of_the_wheels(
    tmp_path: Path, engine_package: Callable[[str], Path], source: str, name: str
) -> None:
    code = engines_in([engine_package(name)])[name]
    rows = [
        names.compare(config, name, code, *split, redundant=redundant)
        for file in FILES[source]
        for config in _configs_of(file, tmp_path)
        for split in SPLITS
        if split in {*names.splits_of(config)}
        for redundant in ((0,) if split != (8, 8) else (0, 5, 8))
    ]
    assert {row.verdict for row in rows} >= {"equal", "both refuse"}
    assert not [row for row in rows if row.verdict in names.WRONG]
    asked = [row for row in rows if row.verdict != names.NOT_ASKED]
    assert len(asked) > 0.9 * len(rows)


def _configs_of(file: Path, folder: Path) -> Iterator[Path]:
    for line in file.read_text(encoding="utf-8").splitlines():
        model = json.loads(line)
        own = folder / model["name"].replace("/", "--")
        own.mkdir()
        for name in ("config.json", "hf_quant_config.json"):
            if name in model or name.removesuffix(".json") in model:
                content = model.get(name) or model[name.removesuffix(".json")]
                (own / name).write_text(json.dumps(content))
        yield own / "config.json"


def test_experts_without_a_file_are_refused() -> None:
    assert read_case({}, None).flag is None
    fp8 = {"quantization": {"quant_algo": "FP8"}}
    assert read_case({}, fp8).flag == "use_fp8_w8a8"
    with pytest.raises(RefusalError, match="NVFP4"):
        read_case({}, {"quantization": {"quant_algo": "NVFP4"}})
