"""Seconds between two looks at what nobody announces, for every loop of the package that waits."""

LULL_S = 0.2
"""The longest wait for a message, so that an interruption, a deadline or a timeout is heard."""
POLL_S = 0.02
"""The pause between two looks at a lock, a row or a thread that somebody else will change."""
