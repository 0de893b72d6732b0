"""The file systems on which SQLite cannot be trusted, and finding out a path's own."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

_NETWORK = frozenset(
    (
        "9p",
        "afs",
        "beegfs",
        "ceph",
        "cifs",
        "dfs",
        "efs",
        "fhgfs",
        "glusterfs",
        "gpfs",
        "lustre",
        "ncpfs",
        "nfs",
        "nfs3",
        "nfs4",
        "orangefs",
        "pvfs2",
        "smb2",
        "smb3",
        "smbfs",
        "vboxsf",
        "vmhgfs",
        "wekafs",
    )
)
"""File systems whose locks between machines, or at all, are not SQLite's, and whose shared memory
(SQLite's WAL index) is not that of another machine: https://sqlite.org/wal.html, "Overview"."""
_NETWORK_FUSE = frozenset(
    (
        "ceph",
        "ceph-fuse",
        "dxfuse",
        "gcsfuse",
        "glusterfs",
        "goofys",
        "gvfsd-fuse",
        "juicefs",
        "mountpoint-s3",
        "rclone",
        "s3fs",
        "sshfs",
        "vmhgfs-fuse",
    )
)
"""Network file systems as ``fuse.NAME``; others (``fuseblk``, ``fuse.mergerfs``) are local."""
_MOUNTS = Path("/proc/self/mountinfo")
_ESCAPE = re.compile(r"\\([0-7]{3})")


def network_disk(path: Path, mounts: Path = _MOUNTS) -> str | None:
    """Return the file system's type if it is one of a network; None for local and unknown ones.

    ``mounts`` has the format of ``/proc/self/mountinfo`` (proc_pid_mountinfo(5)).
    """
    try:
        text = mounts.read_text(encoding="utf-8", errors="surrogateescape")
    except OSError:
        return None
    kinds = dict(_mounted(text))  # of two mounts at one place the later one is on top
    absolute = path.resolve()
    kind = next((kinds[p] for p in (absolute, *absolute.parents) if p in kinds), "")
    return kind if _is_network(kind) else None


def _is_network(kind: str) -> bool:
    family, _, name = kind.partition(".")
    return name in _NETWORK_FUSE if family == "fuse" else kind in _NETWORK


def _mounted(text: str) -> Iterator[tuple[Path, str]]:
    """Yield mount point and type of every line; lines of another form are passed over."""
    for line in text.splitlines():
        left, dash, right = line.partition(" - ")
        fields, kinds = left.split(), right.split()
        if dash and len(fields) > 4 and kinds:
            point = _ESCAPE.sub(lambda match: chr(int(match[1], 8)), fields[4])
            yield Path(point), kinds[0]
