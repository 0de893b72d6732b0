"""The libraries that beliefs are computed with. They take a second to load, and load when first
needed: not for ``status``.
"""

from __future__ import annotations

from functools import cache

from threadpoolctl import ThreadpoolController


def load() -> None:
    """Have them loaded, so that the first belief does not wait for it. Thread-safe."""
    thread_pools()


@cache
def thread_pools() -> ThreadpoolController:
    """What limits their threads. Found once: to look for them takes 3 ms."""
    import sklearn.tree  # noqa: F401

    return ThreadpoolController()
