"""A GPU that is not there: configs are compiled for it, and their time is modelled.

measurer.py    EstimateMeasurer, which compiles and models
model.py       the time of the layer, and a guess before anything is compiled
tiles.py       configs as columns, with what each takes of an SM
gemm_costs.py  blocks and bytes of one GEMM, and clocks of a K step in each unit of an SM
constants.py   figures of microbenchmarks, each with its evidence
margin.py      the gain over another config that is believed: what exceeds the model's own error
"""
