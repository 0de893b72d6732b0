from __future__ import annotations

from pathlib import Path

import optuna
import pytest
import sqlalchemy

from autotune.errors import StorageError
from autotune.report.dashboard.artifacts import artifact_folder
from autotune.studies.key import StudyKey
from autotune.studies.search.samplers import SAMPLERS
from autotune.studies.space import Space
from autotune.studies.storage import open as open_module
from autotune.studies.storage.open import TRIED, explained, network_disk, open_storage, reading
from autotune.studies.storage.url import parse_address, public_url
from autotune.studies.study_record import open_study, stored_studies

_LINE = "36 27 0:32 / {place} rw,noatime master:1 shared:2 - {kind} server:/export rw,vers=4.2\n"


def test_sqlite_is_in_wal_mode_on_every_connection(database: str) -> None:
    storage = open_storage(database, create=True)
    for _ in range(2):
        with storage.engine.connect() as connection:
            mode = connection.execute(sqlalchemy.text("PRAGMA journal_mode")).scalar()
            sync = connection.execute(sqlalchemy.text("PRAGMA synchronous")).scalar()
        assert (mode, sync) == ("wal", 1)
        storage.engine.dispose()


def test_a_plain_path_is_a_storage(tmp_path: Path) -> None:
    open_storage(str(tmp_path / "a.db"), create=True)
    assert (tmp_path / "a.db").exists()


def test_no_database(tmp_path: Path) -> None:
    text = tmp_path / "notes.txt"
    text.write_text("This is no database. " * 100)
    with pytest.raises(StorageError, match="file is not a database"):
        open_storage(str(text), create=True)
    assert text.read_text() == "This is no database. " * 100


@pytest.mark.parametrize("name", ["missing/autotune.db", "."])
def test_a_place_that_cannot_hold_one(tmp_path: Path, name: str) -> None:
    with pytest.raises(StorageError, match=r"does not exist|is a folder"):
        open_storage(str(tmp_path / name), create=True)


@pytest.mark.parametrize("text", ["/", "sqlite:////", "journal:/", "a\0b", "journal:"])
def test_no_name_is_no_file(text: str) -> None:
    with pytest.raises(StorageError, match=r"is a folder|names no file|is no file|cannot be"):
        open_storage(text, create=True)
    with pytest.raises(StorageError):
        artifact_folder(text)


def test_a_link_to_itself_is_refused(tmp_path: Path) -> None:
    (tmp_path / "loop").symlink_to("loop")
    with pytest.raises(StorageError, match="cannot be opened"):
        open_storage(str(tmp_path / "loop"), create=True)


def test_a_server_without_a_free_connection_says_what_to_set() -> None:
    words = "connection to server failed: FATAL:  sorry, too many clients already"
    with (
        pytest.raises(StorageError, match="max_connections higher"),
        explained(parse_address("postgresql+psycopg://tuner@h/moe")),
    ):
        raise sqlalchemy.exc.OperationalError(words, None, Exception(words))


def test_reading_makes_nothing(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="there is no storage"):
        open_storage(str(tmp_path / "a.db"), create=False)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("url", ["nonsense://u:secret@h", "postgresql+nodriver://u:secret@h/db"])
def test_an_unknown_url_never_shows_its_password(url: str) -> None:
    with pytest.raises(StorageError) as caught:
        open_storage(url, create=True)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("mysql+pymysql://u:secret@h/db", "MySQL and MariaDB are no storages any more"),
        ("mariadb://u:secret@h/db", "MySQL and MariaDB are no storages any more"),
        ("grpc://h:13000", "Name the SQLite file or the PostgreSQL database that the server"),
    ],
)
def test_a_storage_of_an_earlier_version_is_refused_with_what_to_do(url: str, words: str) -> None:
    with pytest.raises(StorageError, match=words) as caught:
        open_storage(url, create=True)
    assert "autotune storage backup" in str(caught.value)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("version", ["5.1.0", "6.0.0rc1", "4.9.0"])
def test_an_optuna_that_was_not_tried_opens_nothing(
    database: str, version: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(optuna, "__version__", version)
    words = rf"Optuna {version} is installed.*pip install 'optuna=={TRIED}\.\*'"
    with pytest.raises(StorageError, match=words):
        open_storage(database, create=True)
    with pytest.raises(StorageError, match=words), reading(database):
        pass
    assert not Path(database).exists()


def test_the_package_asks_for_the_optuna_that_was_tried() -> None:
    project = (Path(__file__).parents[3] / "pyproject.toml").read_text()
    major, minor = map(int, TRIED.split("."))
    assert f'"optuna>={TRIED},<{major}.{minor + 1}"' in project


def test_public_url_hides_the_password() -> None:
    assert public_url("postgresql://me:s@host/db") == "postgresql+psycopg://me:***@host/db"
    assert public_url("a.db") == "a.db"


def test_a_newer_optuna_schema_is_refused(database: str) -> None:
    storage = open_storage(database, create=True)
    with storage.engine.begin() as connection:
        connection.execute(sqlalchemy.text("UPDATE alembic_version SET version_num = 'v99.0.0.a'"))
    storage.engine.dispose()
    with pytest.raises(StorageError, match="newer version of Optuna"):
        open_storage(database, create=True)


def test_a_newer_layout_of_ours_is_refused(database: str, key: StudyKey, space: Space) -> None:
    storage = open_storage(database, create=True)
    sampler = SAMPLERS["random"](space, 0)
    open_study(storage, key, sampler, {"model": "m"}).set_user_attr("layout", 2)
    with pytest.raises(StorageError, match="newer autotune"):
        open_study(storage, key, sampler, {"model": "m"})
    assert stored_studies(storage) == []


def test_a_half_made_study_is_passed_over_and_mended(
    database: str, key: StudyKey, space: Space, monkeypatch: pytest.MonkeyPatch
) -> None:
    storage = open_storage(database, create=True)
    sampler = SAMPLERS["random"](space, 0)

    def die(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr("autotune.studies.study_attributes.set_attributes", die)
        open_study(storage, key, sampler, {"model": "m"})
    assert stored_studies(storage) == []
    open_study(storage, key, sampler, {"model": "m"})
    assert [study.key for study in stored_studies(storage)] == [key]


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
    monkeypatch.setattr(open_module.network_disk, "__defaults__", (mounts,))
    with pytest.raises(StorageError, match=r"network disk \(nfs4\).*journal:FILE"):
        open_storage(str(tmp_path / "a.db"), create=True)
    assert not (tmp_path / "a.db").exists()
    open_storage(f"journal:{tmp_path / 'a.journal'}", create=True)
