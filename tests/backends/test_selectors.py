from __future__ import annotations

from pathlib import Path

import pytest
from measurer_cases import save_recording  # type: ignore[import-not-found]

from autotune.backends import selectors
from autotune.backends.detect import amd_gpus, has_gpu
from autotune.backends.estimate.measurer import EstimateMeasurer
from autotune.backends.protocol import MeasurerOptions
from autotune.backends.replay.measurer import ReplayMeasurer
from autotune.backends.selectors import (
    DEFAULT_ESTIMATE,
    auto_selector,
    check_selector,
    open_measurer,
)
from autotune.errors import DeviceError


@pytest.fixture
def options(tmp_path: Path) -> MeasurerOptions:
    return MeasurerOptions(cache_dir=tmp_path)


def test_selectors_name_their_measurer(options: MeasurerOptions, tmp_path: Path) -> None:
    file = save_recording(tmp_path / "some:odd.npz")
    assert isinstance(open_measurer("estimate:NVIDIA_B200", options), EstimateMeasurer)
    assert isinstance(open_measurer(f"replay:{file}", options), ReplayMeasurer)


@pytest.mark.parametrize(
    "selector",
    ["", "auto", "cpu", "cuda:", "cuda:x", "cuda:-1", "estimate", "estimate:", "replay:"],
)
def test_anything_else_says_what_is_allowed(options: MeasurerOptions, selector: str) -> None:
    with pytest.raises(DeviceError, match=r"allowed are cuda, .*estimate:.*replay:"):
        open_measurer(selector, options)
    with pytest.raises(DeviceError, match=r"allowed are cuda, .*estimate:.*replay:"):
        check_selector(selector)


def test_an_unknown_gpu_is_refused(options: MeasurerOptions) -> None:
    with pytest.raises(DeviceError, match=r"'Voodoo2'. Known are"):
        open_measurer("estimate:Voodoo2", options)
    with pytest.raises(DeviceError, match=r"'Voodoo2'. Known are"):
        check_selector("estimate:Voodoo2")


def test_a_recording_is_looked_at_before_anything_is_opened(tmp_path: Path) -> None:
    check_selector(f"replay:{save_recording(tmp_path / 'there.npz')}@15ms")
    with pytest.raises(DeviceError, match=r"gone\.npz cannot be read as a recording: No such file"):
        check_selector(f"replay:{tmp_path / 'gone.npz'}@15ms")


@pytest.mark.parametrize(("is_there", "selector"), [(True, "cuda"), (False, DEFAULT_ESTIMATE)])
def test_auto_takes_a_gpu_where_there_is_one(
    monkeypatch: pytest.MonkeyPatch, is_there: bool, selector: str
) -> None:
    monkeypatch.setattr(selectors, "has_gpu", lambda: is_there)
    assert auto_selector() == selector


def test_the_default_estimate_can_be_opened(options: MeasurerOptions) -> None:
    assert open_measurer(DEFAULT_ESTIMATE, options).device.name == "NVIDIA H200"


def test_amd_gpus_are_nodes_with_an_id(tmp_path: Path) -> None:
    for node, gpu_id in enumerate(("0", "51110", "")):
        (tmp_path / str(node)).mkdir()
        (tmp_path / str(node) / "gpu_id").write_text(f"{gpu_id}\n")
    assert amd_gpus(tmp_path) == 1
    assert amd_gpus(tmp_path / "none") == 0


@pytest.mark.gpu
def test_a_gpu_is_found() -> None:
    assert has_gpu()
