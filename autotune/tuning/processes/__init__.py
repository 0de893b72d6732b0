"""Processes of this machine, and calls on them.

killable.py          a process that dies with its parent and may be killed at any moment
child.py             the one that holds a measurer, and typed calls of it
dispatch.py          queues of such calls: time limits, retries, restarts, results of dead children
signals.py           the first Ctrl-C asks a command to finish, the second ends it
"""
