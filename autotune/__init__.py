"""Optuna autotuner for the Triton Mixture-of-Experts kernels that SGLang and vLLM serve with.

    cli.py          the command line: parses it, turns errors into a line and an exit code
    exit_codes.py   the exit codes: done, failed, bad input, interrupted
    settings.py     what a command was told, as frozen values, and as JSON in a storage
    errors.py       the errors that a user can cause
    extras.py       the packages that only some commands need
    nearest.py      what a misspelt word may have meant
    shown.py        any text made fit to be shown: no password, no control characters
    intervals.py    how often loops look again

CONTRIBUTING.md says what each package holds; each package's own docstring maps its files.
"""

__version__ = "0.1.0"
