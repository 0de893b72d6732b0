"""The Python API, and what commands have in common with it. docs/python.md shows its use.

| file | holds |
|---|---|
| calls | ``tune`` and ``load``, which ``autotune`` itself offers |
| checks | ``check``, which needs no Optuna |
| result | what they return: ``Result``, ``StoredResult`` |
| rows | results as a DataFrame, plain dicts, text, a notebook's cell |
| progress | ``Progress``, and who tells it to a callback and to the log |
| asked | flags or keywords become settings |
| batch_sizes | ``auto:FILE``: the batch sizes that a server ran |
| runs | a run as commands and ``tune`` start it |
| stored | winners, states and engine files, from a storage alone |
| own_runs | whose settings in a storage say paths that may be used |
| defaults | storage and folders that are used where nobody says others |
"""
