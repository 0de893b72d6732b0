"""Which engines are taken, and what is said of those that are not."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

import pytest
from engine_files import faults_in_files  # type: ignore[import-not-found]
from standins import VERSIONS, write_engine  # type: ignore[import-not-found]

import autotune
from autotune.backends.gpu import measurer
from autotune.backends.gpu.providers import ProviderSite, open_provider
from autotune.backends.gpu.providers.engine import Needs
from autotune.backends.gpu.providers.sglang import NEEDS as SGLANG
from autotune.backends.gpu.providers.vllm import NEEDS as VLLM
from autotune.backends.protocol import MeasurerOptions
from autotune.errors import DeviceError, MissingProvider, ProviderError
from autotune.spec.device import Target

SITE = ProviderSite("cpu", Target("cuda", 90))
BY_NAME = {"sglang": SGLANG, "vllm": VLLM}
WHEELS = os.environ.get("AUTOTUNE_ENGINE_WHEELS")
"""A folder with wheels, as ``pip download --no-deps sglang==0.5.23 vllm==0.33.0`` leaves them."""


@pytest.mark.parametrize("name", BY_NAME)
def test_what_is_not_installed_says_how_to_install_it(name: str) -> None:
    if BY_NAME[name].package in {d.name for d in Path(sys.prefix).rglob(f"site-packages/{name}")}:
        pytest.skip(f"{name} is installed here")
    with pytest.raises(MissingProvider, match=f"pip install '{name}>="):
        open_provider(name, SITE)


@pytest.mark.parametrize(
    ("name", "version"),
    [("sglang", "0.5.2"), ("sglang", "0.6.0"), ("vllm", "0.31.9"), ("vllm", "1.0.0+cu129")],
)
def test_other_versions_are_refused(install: Callable[..., Path], name: str, version: str) -> None:
    install(name, version)
    with pytest.raises(ProviderError, match=rf"{version.replace('+', '.')} is installed; .*known"):
        open_provider(name, SITE)


def test_a_changed_signature_is_named(install: Callable[..., Path]) -> None:
    root = install("vllm", "0.33.0")
    moe = root / "vllm/model_executor/layers/fused_moe/fused_moe.py"
    moe.write_text(moe.read_text().replace("expert_map", "expert_table"))
    config = moe.with_name("config.py")
    config.write_text(config.read_text().replace("def int8_w8a16", "def int8_w8a17"))
    with pytest.raises(ProviderError, match=r"no 'expert_map'.*int8_w8a16_moe_quant_config"):
        open_provider("vllm", SITE)


def test_a_run_s_own_files_are_not_read_meanwhile(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VLLM_TUNED_CONFIG_FOLDER", str(tmp_path / "vllm"))
    monkeypatch.setenv("SGLANG_MOE_CONFIG_DIR", "/mine")
    monkeypatch.setattr(measurer, "take_device", _no_device)
    for folder, is_set in ((tmp_path / "other", True), (tmp_path, False)):
        options = MeasurerOptions(cache_dir=tmp_path, provider="vllm", output_dir=folder)
        with pytest.raises(DeviceError):
            measurer.open_gpu(0, options)
        assert ("VLLM_TUNED_CONFIG_FOLDER" in os.environ) == is_set
    assert os.environ["SGLANG_MOE_CONFIG_DIR"] == "/mine"


def _no_device(index: int, options: MeasurerOptions) -> NoReturn:
    raise DeviceError(f"no GPU {index}")


@pytest.mark.parametrize(("name", "version"), [(n, v) for n, vs in VERSIONS.items() for v in vs])
def test_files_alone_tell_the_same(tmp_path: Path, name: str, version: str) -> None:
    root = write_engine(tmp_path, name, version)
    needs: Needs = BY_NAME[name]
    assert faults_in_files(needs, root) == []
    changed = next(root.rglob("fused_moe.py"))
    changed.write_text(changed.read_text().replace("block_shape", "blocks").replace("w2,", "w3,"))
    assert any("'w2'" in fault for fault in faults_in_files(needs, root))


@pytest.mark.parametrize(("name", "version"), [(n, v) for n, vs in VERSIONS.items() for v in vs])
def test_the_real_wheel_has_what_is_needed(tmp_path: Path, name: str, version: str) -> None:
    if WHEELS is None:
        pytest.skip("AUTOTUNE_ENGINE_WHEELS names no folder with wheels of the engines")
    wheel = next(Path(WHEELS).glob(f"{name}-{version}-*.whl"), None)
    if wheel is None:
        pytest.skip(f"no wheel of {name} {version} in {WHEELS}")
    with zipfile.ZipFile(wheel) as archive:
        sources = [member for member in archive.namelist() if member.endswith(".py")]
        archive.extractall(tmp_path, sources)
    assert faults_in_files(BY_NAME[name], tmp_path) == []


def test_the_current_folder_never_shadows_the_packages_of_an_engine(tmp_path: Path) -> None:
    """SGLang imports a package called kernels; the repository shows a link of that name."""
    engine = write_engine(tmp_path / "site", "sglang", VERSIONS["sglang"][-1])
    for name in ("kernels", "studies"):
        (tmp_path / "work" / name).mkdir(parents=True)
        (tmp_path / "work" / name / "__init__.py").touch()
    code = (
        "import sys\n"
        "from autotune.spec.device import Target\n"
        "from autotune.backends.gpu.providers import ProviderSite, open_provider\n"
        "assert 'torch' not in sys.modules\n"
        "print(open_provider('sglang', ProviderSite('cpu', Target('cuda', 90))).version)\n"
        "import kernels; print(kernels.HUB)\n"
    )
    package = str(Path(autotune.__file__).parents[1])
    paths = (str(tmp_path / "work"), package, str(engine), str(Path(__file__).parent))
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path / "work",
        env=os.environ | {"PYTHONPATH": os.pathsep.join(paths)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout.splitlines() == ["sglang 0.5.23", "True"], done.stderr


def test_no_group_is_left_where_the_next_one_fails(install: Callable[..., Path]) -> None:
    root = install("sglang", "0.5.23")
    parallel = root / "sglang/srt/distributed/parallel_state.py"
    text = parallel.read_text().replace(
        'sglang.STATE.append("parallel")', 'raise RuntimeError("no groups\\nand more")'
    )
    parallel.write_text(text)
    with pytest.raises(ProviderError, match=r"sglang cannot be used: RuntimeError: no groups$"):
        open_provider("sglang", SITE)
    assert sys.modules["sglang"].STATE == ["published"]


@pytest.mark.parametrize("raised", ["TypeError('no')", "SystemExit('no')"])
def test_whatever_an_import_raises_is_said_of_the_engine(
    install: Callable[..., Path], raised: str
) -> None:
    root = install("vllm", "0.33.0")
    (root / "vllm/__init__.py").write_text(f"raise {raised}")
    with pytest.raises(ProviderError, match=r"vllm cannot be used: \w+: no"):
        open_provider("vllm", SITE)
