"""Errors of a GPU's driver, told apart: which leave the process whole, and which do not."""

from __future__ import annotations

import torch

_REFUSALS = (
    "invalid argument",
    "invalid configuration argument",
    "too many resources requested for launch",
    "no kernel image is available",
)
"""Words of the driver about a launch that it did not begin (CUDA driver API, CUresult 1, 701, 209,
and the runtime's 9): later calls work. After any other error, as an illegal address, none does."""
_DRIVERS = ("CUDA error", "HIP error", "Triton Error [")
"""Words of errors that no compiler says."""


def is_out_of_memory(error: Exception) -> bool:
    """True for PyTorch's and for Triton's word for a device without memory left."""
    if isinstance(error, torch.OutOfMemoryError):
        return True
    return isinstance(error, RuntimeError) and "out of memory" in str(error)


def is_harmless(error: Exception) -> bool:
    """True for CUDA's refusals of a launch. All others may have left the context unusable."""
    words = str(error)
    return "CUDA" in words and any(refusal in words for refusal in _REFUSALS)


def is_of_driver(error: Exception) -> bool:
    """True for an error of the driver, rather than of a compiler."""
    return any(words in str(error) for words in _DRIVERS)


def first_line(error: Exception) -> str:
    """Return the first line of its message, or the name of its type."""
    return (str(error).splitlines() or [type(error).__name__])[0]
