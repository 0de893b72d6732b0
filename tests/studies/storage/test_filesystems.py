"""Where SQLite may lie, by what the kernel says of mounts."""

from __future__ import annotations

from pathlib import Path

import pytest

from autotune.errors import StorageError
from autotune.studies.storage import filesystems
from autotune.studies.storage.filesystems import network_disk
from autotune.studies.storage.open import open_storage

_LINE = "36 27 0:32 / {place} rw,noatime master:1 shared:2 - {kind} server:/export rw,vers=4.2\n"


def _mounts(folder: Path, *kinds: tuple[str, str]) -> Path:
    """A mountinfo with a root of ext4 and more on top."""
    path = folder / "mountinfo"
    lines = [("/", "ext4"), *kinds]
    path.write_text("".join(_LINE.format(place=place, kind=kind) for place, kind in lines))
    return path


@pytest.mark.parametrize(
    "kind",
    ["nfs", "nfs4", "cifs", "smb3", "lustre", "gpfs", "beegfs", "ceph", "9p", "fuse.sshfs"],
)
def test_network_file_systems(tmp_path: Path, kind: str) -> None:
    mounts = _mounts(tmp_path, (str(tmp_path / "share"), kind))
    assert network_disk(tmp_path / "share" / "deep" / "a.db", mounts) == kind
    assert network_disk(tmp_path / "share.db", mounts) is None


@pytest.mark.parametrize(
    "kind", ["ext4", "xfs", "btrfs", "zfs", "overlay", "tmpfs", "fuseblk", "fuse.mergerfs"]
)
def test_local_file_systems(tmp_path: Path, kind: str) -> None:
    mounts = _mounts(tmp_path, (str(tmp_path), kind))
    assert network_disk(tmp_path / "a.db", mounts) is None


def test_the_topmost_and_deepest_mount_counts(tmp_path: Path) -> None:
    share = str(tmp_path / "share")
    under = _mounts(tmp_path, (share, "nfs4"), (share, "ext4"))
    assert network_disk(tmp_path / "share" / "a.db", under) is None
    local = _mounts(tmp_path, (share, "nfs4"), (f"{share}/scratch", "xfs"))
    assert network_disk(tmp_path / "share" / "scratch" / "a.db", local) is None
    assert network_disk(tmp_path / "share" / "a.db", local) == "nfs4"


def test_a_mount_point_with_a_space_and_a_link_to_it(tmp_path: Path) -> None:
    (tmp_path / "my share").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "my share")
    mounts = _mounts(tmp_path, (str(tmp_path / "my share").replace(" ", "\\040"), "nfs"))
    assert network_disk(tmp_path / "my share" / "a.db", mounts) == "nfs"
    assert network_disk(tmp_path / "link" / "a.db", mounts) == "nfs"


def test_no_mounts_and_odd_lines_are_local(tmp_path: Path) -> None:
    assert network_disk(tmp_path / "a.db", tmp_path / "none") is None
    (tmp_path / "odd").write_text("what\n - \n1 2 3 4 - nfs\n")
    assert network_disk(tmp_path / "a.db", tmp_path / "odd") is None


def test_sqlite_is_refused_there_and_a_journal_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mounts = _mounts(tmp_path, (str(tmp_path), "nfs4"))
    monkeypatch.setattr(filesystems.network_disk, "__defaults__", (mounts,))
    with pytest.raises(StorageError, match=r"network disk \(nfs4\).*journal:FILE"):
        open_storage(str(tmp_path / "a.db"), create=True)
    assert not (tmp_path / "a.db").exists()
    open_storage(f"journal:{tmp_path / 'a.journal'}", create=True)
