"""Our file names of the catalogue's models beside those that the engines' own code makes."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from importlib import resources
from pathlib import Path

import pytest

NAMES = Path(__file__).parents[2] / "benchmarks" / "names"
SPLITS = ((1, 1), (8, 1), (8, 8))

sys.path.insert(0, str(NAMES))
import names  # noqa: E402
from theirs import RefusalError, engines_in, read_case  # noqa: E402


@pytest.mark.parametrize("name", ["vllm", "sglang"])
def test_names_are_those_of_the_wheels(
    tmp_path: Path, engine_package: Callable[[str], Path], name: str
) -> None:
    code = engines_in([engine_package(name)])[name]
    rows = [names.compare(f, name, code, *s) for f in _catalogue(tmp_path) for s in SPLITS]
    assert {row.verdict for row in rows} >= {"equal", "both refuse"}
    wrong = [row for row in rows if row.verdict == "different"]
    assert not wrong, wrong


def _catalogue(folder: Path) -> list[Path]:
    lines = resources.files("autotune.models.catalogue") / "models.jsonl"
    files = []
    for line in lines.read_text(encoding="utf-8").splitlines():
        model = json.loads(line)
        file = folder / "configs" / model["name"].replace("/", "--") / "config.json"
        file.parent.mkdir(parents=True)
        file.write_text(json.dumps(model["config"]))
        files.append(file)
    return files


def test_experts_without_a_file_are_refused() -> None:
    assert read_case({}, None).flag is None
    fp8 = {"quantization": {"quant_algo": "FP8"}}
    assert read_case({}, fp8).flag == "use_fp8_w8a8"
    with pytest.raises(RefusalError, match="NVFP4"):
        read_case({}, {"quantization": {"quant_algo": "NVFP4"}})
