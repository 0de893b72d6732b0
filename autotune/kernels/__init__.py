"""Triton MoE kernels, and what describes them.

``binary``, ``config``, ``device``, ``distributions``, ``limits``, ``measurement``, ``problem``,
``recording`` and ``routing`` are pure: they import neither torch nor triton. Nothing here knows
Optuna.
"""
