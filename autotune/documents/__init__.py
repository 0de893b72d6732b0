"""What commands print with ``--json``: one document each, whose schema docs/schemas publishes.

The Python API returns the same rows. Nothing here knows how a row is found.

| file | holds |
|---|---|
| base | ``Document`` and ``Row``: how they become JSON |
| rows | rows of results, files, studies and checks |
| lookups | rows of what engines look for and launch |
| run | ``run``, ``run --dry-run``, ``resume`` |
| storage | ``status``, ``best``, ``storage check``, ``storage backup``, ``storage upgrade`` |
| files | ``export``, ``report``, ``check``, ``convert`` |
| measuring | ``bench``, ``compare``, ``record`` |
| routing | ``capture-routing``, ``routing-stats`` |
| machine | ``doctor``, ``models``, ``dashboard`` |
| server_log | ``doctor --server-log`` |
| error | what any command prints where it did not work |
"""
