"""Writing a file that others read and write at the same time."""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from autotune.intervals import POLL_S


def write_text(path: Path, text: str) -> None:
    """Replace ``path`` in one step: a reader sees the old text or the new one, never a part.

    The mode of an existing file is kept, and a link, of which what it leads to is replaced. Raises
    OSError, and then ``path`` is as it was and no temporary file is left.
    """
    path = Path(os.path.realpath(path))
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
    from filelock import FileLock, Timeout  # 40 ms: not for who only replaces a file

    lock = path.with_name(f".{path.name}.lock")
    file_lock = FileLock(lock, timeout=timeout_s, poll_interval=POLL_S, thread_local=False)
    try:
        held = file_lock.acquire()
    except Timeout:
        raise TimeoutError(f"another process has held {lock} for {timeout_s:.0f} s") from None
    with held:
        try:
            yield
        finally:
            lock.unlink(missing_ok=True)  # while holding it: who waits on this inode tries again
