"""Watching a storage does no harm to it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from autotune.studies.storage.open import opened
from autotune.studies.storage.watch import StorageWatch

_WRITE_AND_CLOSE = """
import sqlite3, sys
connection = sqlite3.connect(sys.argv[1])
connection.execute("CREATE TABLE another (x)")
connection.commit()
connection.close()
"""


def test_a_watch_that_ends_gives_up_no_lock_of_sqlite(tmp_path: Path) -> None:
    path = tmp_path / "s.db"
    with opened(str(path), create=True) as storage:
        assert storage.get_all_studies() == []  # a connection that stays open
        watch = StorageWatch(str(path))
        watch.begin(storage)
        assert watch.fault(()) is None
        watch.close()
        subprocess.run([sys.executable, "-c", _WRITE_AND_CLOSE, str(path)], check=True)
        # Had it found no lock of ours, it would have removed the log that we have open.
        assert path.with_name("s.db-wal").exists()
