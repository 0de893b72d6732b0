"""A sampler that enumerates the feasible set and models log time over it.

parameters ─► candidates ─┐
problem, device ─► features ├─► model (gp + trees) ─► acquisition ─► sampler
siblings, static guess ─► prior ┘

candidates      the feasible set as numbers, and a study's trials as rows of it (Observed)
features        physical features of a config on a problem
prior           a guess from sibling studies
gp, trees       the two kinds of model
model           both, weighed by their record
acquisition     scores every candidate (expected improvement, less where it compiled badly) and
                chooses the next ones
sampler         the Optuna samplers around it: trials in, parameters out; the first design
"""
