from __future__ import annotations

import pytest
import torch

from autotune.backends.gpu.device_errors import (
    first_line,
    is_harmless,
    is_of_driver,
    is_out_of_memory,
)


@pytest.mark.parametrize(
    ("words", "harmless"),
    [
        ("CUDA error: too many resources requested for launch\nand more", True),
        ("Triton Error [CUDA]: invalid argument", True),
        ("CUDA error: an illegal memory access was encountered", False),
        ("Triton Error [CUDA]: misaligned address", False),
        ("CUDA error: unspecified launch failure", False),
        ("shape '[2]' is an invalid argument", False),
    ],
)
def test_only_a_refused_launch_leaves_the_context_whole(words: str, harmless: bool) -> None:
    assert is_harmless(RuntimeError(words)) is harmless


@pytest.mark.parametrize(
    ("words", "of_driver"),
    [
        ("CUDA error: unspecified launch failure", True),
        ("Triton Error [CUDA]: misaligned address", True),
        ("Triton Error [HIP]:  Code: 719", True),
        ("HIP error: an illegal memory access", True),
        ("ptxas fatal: (C7907) Internal compiler error", False),
        ("PassManager::run failed", False),
    ],
)
def test_a_compilers_words_are_not_the_drivers(words: str, of_driver: bool) -> None:
    assert is_of_driver(RuntimeError(words)) is of_driver


def test_both_words_for_a_full_memory() -> None:
    assert is_out_of_memory(torch.OutOfMemoryError("CUDA out of memory. Tried"))
    assert is_out_of_memory(RuntimeError("Triton Error [CUDA]: out of memory"))
    assert not is_out_of_memory(ValueError("out of memory"))
    assert not is_out_of_memory(RuntimeError("CUDA error: unspecified launch failure"))


def test_the_first_line_of_an_error_without_words_is_its_type() -> None:
    assert first_line(RuntimeError("one\ntwo")) == "one"
    assert first_line(RuntimeError()) == "RuntimeError"
