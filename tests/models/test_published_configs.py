"""Every published config that lies beside the project, where it does."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from autotune.errors import ModelError
from autotune.models.load import catalogue_shapes, load_shape

FOLDER = Path(__file__).parents[2].parent / "shared" / "model_configs"
FOLDERS = sorted(file.parent for file in FOLDER.glob("*/config.json"))
NAMES = {shape.name.replace("/", "--"): shape for shape in catalogue_shapes()}
DENSE = ("nvidia--Gemma-4-31B-IT-NVFP4",)

pytestmark = pytest.mark.skipif(not FOLDERS, reason="no published configs beside the project")


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_each_is_read_or_dense(folder: Path) -> None:
    if folder.name in DENSE:
        with pytest.raises(ModelError, match="is a dense model"):
            load_shape(str(folder))
        return
    shape = load_shape(str(folder))
    assert shape.experts >= shape.top_k >= 1
    assert shape.gated == ("Nemotron-3" not in folder.name)


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_what_modelopt_stored_is_never_taken_for_unquantised(folder: Path) -> None:
    if folder.name in DENSE or not (folder / "hf_quant_config.json").is_file():
        pytest.skip("nothing beside it")
    said = json.loads((folder / "hf_quant_config.json").read_text(encoding="utf-8"))
    stored = load_shape(str(folder)).quantization
    assert stored is not None
    assert (stored.dtype is not None) == (said["quantization"]["quant_algo"] == "FP8")


@pytest.mark.parametrize(
    "folder", [f for f in FOLDERS if f.name in NAMES], ids=lambda folder: folder.name
)
def test_the_catalogue_says_what_the_published_config_says(folder: Path) -> None:
    published, known = load_shape(str(folder)), NAMES[folder.name]
    for field in ("architecture", "experts", "top_k", "hidden", "intermediate", "layers"):
        assert getattr(published, field) == getattr(known, field), field
    for field in ("quantization", "dtype", "gated", "shared_experts"):
        assert getattr(published, field) == getattr(known, field), field
