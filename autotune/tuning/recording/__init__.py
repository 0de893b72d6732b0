"""The command ``record``.

recorder.py        compiles and measures what a recording lacks, on child processes
recording_log.py   the recording's file and its journal as one
"""
