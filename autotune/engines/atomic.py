"""Writing a file that others read and write at the same time."""

from __future__ import annotations

import fcntl
import os
import secrets
import shutil
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from autotune.intervals import POLL_S


def write_text(path: Path, text: str) -> None:
    """Replace ``path`` in one step: a reader sees the old text or the new one, never a part.

    The mode of an existing file is kept. Raises OSError, and then ``path`` is as it was and no
    temporary file is left.
    """
    temporary = path.with_name(f".{secrets.token_hex(8)}.tmp")
    try:
        with temporary.open("x", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        if path.exists():
            shutil.copymode(path, temporary)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def locked(path: Path, *, timeout_s: float = 30.0) -> Iterator[None]:
    """Hold the lock of ``path`` against other processes and threads; leave no lock file behind.

    The lock dies with its process. A link in its place is not followed. Raises TimeoutError (an
    OSError) when another holds it for ``timeout_s``, and OSError where nothing can be written.
    """
    lock = path.with_name(f".{path.name}.lock")
    deadline = time.monotonic() + timeout_s
    while (descriptor := _acquire(lock)) is None:
        if time.monotonic() > deadline:
            raise TimeoutError(f"another process has held {lock} for {timeout_s:.0f} s")
        time.sleep(POLL_S)
    try:
        yield
    finally:
        lock.unlink(missing_ok=True)  # while holding it: who waits on this inode tries again
        os.close(descriptor)


def _acquire(lock: Path) -> int | None:
    """Return an open descriptor that holds the lock, or None while somebody else does."""
    with ExitStack() as stack:
        descriptor = os.open(lock, os.O_CREAT | os.O_RDWR | os.O_NOFOLLOW, 0o666)
        stack.callback(os.close, descriptor)
        with suppress(BlockingIOError, FileNotFoundError):  # held, or given back just now
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.path.samestat(os.fstat(descriptor), lock.stat()):
                stack.pop_all()
                return descriptor
    return None
