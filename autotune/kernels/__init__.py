"""Triton MoE kernels, and what describes them.

``config``, ``problem``, ``device``, ``limits``, ``measurement`` and ``routing`` are pure: they
import neither torch nor triton. Nothing here knows Optuna.
"""
