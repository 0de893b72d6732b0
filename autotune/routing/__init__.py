"""Routings: which experts the tokens of a batch visit, drawn by a seed or recorded from a model.

distributions.py  the names of --routing (uniform, zipf:A, …), and each one's expert popularity
draw.py           ids of one routing instance: the top-k of a distribution, or from a recording
trace.py          RoutingTrace, the choices recorded from a model, and the load of its experts
trace_files.py    traces on disk, ours and SGLang's
capture.py        records a trace from a run of a model with transformers
"""
