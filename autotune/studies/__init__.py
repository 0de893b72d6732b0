"""Optuna studies of MoE launch configs. Imports neither torch nor triton, so that a dashboard or a
status command stays light.

key.py            what makes two runs share a study
space.py          the configs that a problem and a device allow, and why not the others
pairs.py          the same for pairs of configs, one for each GEMM
outcome.py        what became of a trial (Outcome, TrialResult)
trial_record.py   a trial in the storage: names of its attributes, writing, reading (TrialRecord)
trial_io.py       queueing trials, ending them behind the measuring (ResultWriter), giving up
study_attributes.py  a study's attributes: names, types, what is sound, writing (StudyAttributes)
study_record.py   a study in the storage: opened, found again, read with its trials
lifecycle.py      a study's state as a pure function of what is known of it
search/           samplers, what they learn from, and when a config is given up
selection/        finalists, and which config wins
coordination/     trials claimed by one worker each; who is alive; a cached view of a study
storage/          databases and journals: opening, transactions, summaries, maintenance, raw
"""
