"""Progress and results on a terminal.

| file | holds |
|---|---|
| run_display | the displays of a run: redrawn on a terminal, log lines elsewhere |
| run_summary | what a run brought: tables, files, notes |
| bars | progress of ``record`` and ``capture-routing`` |
| eta | the estimate of the time left |
| opening_rows | which files engines look for, where, and what they launch |
| serving_rows | whether engines open our files where they serve |
| server_rows | what a server's log says of files and kernels |
| tables | tables of results, studies and any rows |
"""
