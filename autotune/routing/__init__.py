"""Routings: which experts the tokens of a batch visit, drawn by a seed or recorded from a model.

distributions.py  named distributions of expert popularity
draw.py           the ids of one routing instance, as this rank sees them
trace.py          RoutingTrace, the choices recorded from a model, and the load of its experts
trace_files.py    traces on disk, ours and SGLang's
capture.py        records a trace from a run of a model with transformers
"""
