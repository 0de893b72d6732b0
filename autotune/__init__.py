"""Optuna autotuner for the Triton Mixture-of-Experts kernels that SGLang and vLLM serve with."""

__version__ = "0.1.0"
