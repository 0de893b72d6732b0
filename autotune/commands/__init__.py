"""One function per command: takes parsed flags and an Output, returns the exit code."""
