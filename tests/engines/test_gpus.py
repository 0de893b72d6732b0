"""The architectures of GPUs by their names: from a table, and nothing from a prefix."""

from __future__ import annotations

import pytest

from autotune.engines.gpus import UNKNOWN, target_of


@pytest.mark.parametrize(
    ("name", "target"),
    [
        ("NVIDIA A100-SXM4-80GB", "cuda:80"),
        ("NVIDIA_A800-SXM4-80GB", "cuda:80"),
        ("NVIDIA L40S", "cuda:89"),
        ("NVIDIA_GeForce_RTX_4090", "cuda:89"),
        ("NVIDIA_RTX_5880_Ada_Generation", "cuda:89"),
        ("NVIDIA_H100_80GB_HBM3", "cuda:90"),
        ("NVIDIA_H20-3e", "cuda:90"),
        ("NVIDIA_H200_NVL", "cuda:90"),
        ("NVIDIA_GB200", "cuda:100"),
        ("NVIDIA_B300_SXM6_AC", "cuda:103"),
        ("NVIDIA_RTX_PRO_6000_Blackwell_Max-Q_Workstation_Edition", "cuda:120"),
        ("NVIDIA_GB10", "cuda:121"),
        ("AMD_Instinct_MI250X_/_MI250", "hip:gfx90a"),
        ("AMD Instinct MI300X", "hip:gfx942"),
        ("AMD_Instinct_MI325_OAM", "hip:gfx942"),
        ("AMD_Instinct_MI355_OAM", "hip:gfx950"),
        ("AMD_Radeon_R9700", "hip:gfx1201"),
        ("Radeon_8060S_Graphics", "hip:gfx1151"),
        ("Intel(R)_Arc(TM)_Pro_B70_Graphics", "xpu:bmg"),
    ],
)
def test_known(name: str, target: str) -> None:
    assert str(target_of(name)) == target


@pytest.mark.parametrize(
    "name",
    ["", "NVIDIA_L20Y", "NVIDIA_H1000", "AMD_H100", "AMD_Instinct_MI999X", "NVIDIA", "TPU_v5"],
)
def test_unknown_is_not_guessed(name: str) -> None:
    assert target_of(name) == UNKNOWN
