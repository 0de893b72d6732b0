"""Optuna studies of MoE launch configs: key, space, outcome, storage, sampling.

Imports neither torch nor triton, so that a dashboard or a status command stays light.
"""
