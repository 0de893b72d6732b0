"""Whether a process is alive."""

from __future__ import annotations

import psutil


def is_alive(pid: int) -> bool:
    """False of a process that has ended, also where nobody has waited for it yet."""
    try:
        status = psutil.Process(pid).status()
    except psutil.NoSuchProcess:
        return False
    return status not in (psutil.STATUS_ZOMBIE, psutil.STATUS_DEAD)
