"""A sampler that enumerates the feasible set and models log time over it.

parameters ─► candidates ───────────┐
problem, device ─► features ────────┼─► model (gp + trees) ─► acquisition ─► sampler
siblings, a guess of times ─► prior ┘

candidates      the feasible set as numbers, and a study's trials as rows of it (Observed)
features        physical features of a config on a problem
rough_time      a guess of times from sizes alone, where no better one is given
prior           that of a time model, or the rough one, and what sibling studies teach
gp, trees       the two kinds of model
model           both, weighed by their record
acquisition     scores every candidate (expected improvement, less where it compiled badly) and
                chooses the next ones
sampler         the Optuna samplers around it: trials in, parameters out; the first design
"""
