"""Triton MoE kernels, and what describes them.

``binary``, ``config``, ``device``, ``limits``, ``measurement``, ``problem`` and ``routing`` are
pure: they import neither torch nor triton. Nothing here knows Optuna.
"""
