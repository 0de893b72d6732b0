"""Writing engine files: nothing that is there gets lost, nothing half-written is left."""

from __future__ import annotations

import errno
import fcntl
import json
import multiprocessing
import os
import signal
import stat
import threading
from multiprocessing.connection import Connection
from pathlib import Path

import pytest
from engine_cases import H200, LARGE, SMALL, make_device, make_problem

from autotune.engines import ENGINES, Engine, atomic, read_configs, write_configs
from autotune.engines.entries import load_body
from autotune.engines.read_write import backup
from autotune.errors import EngineFileError
from autotune.spec.config import Config
from autotune.spec.problem import Dtype

PROBLEM = make_problem()


@pytest.fixture(params=sorted(ENGINES))
def engine(request: pytest.FixtureRequest) -> Engine:
    return ENGINES[request.param]


@pytest.fixture
def path(engine: Engine, tmp_path: Path) -> Path:
    return engine.path(tmp_path, PROBLEM, H200)


def place(path: Path, body: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(body if isinstance(body, str) else json.dumps(body))
    return path


def entries(path: Path) -> dict[str, object]:
    body = json.loads(path.read_text())
    return {key: value for key, value in body.items() if key != "triton_version"}


def test_a_new_file_is_what_the_engines_write(engine: Engine, path: Path) -> None:
    written = write_configs(engine, path, {64: LARGE, 1: SMALL}, PROBLEM, H200)
    assert (written.path, written.written, written.notes) == (path, (1, 64), ())
    body = engine.body({1: SMALL, 64: LARGE}, PROBLEM, H200)
    assert path.read_text() == json.dumps(body, indent=4) + "\n"
    assert [entry.name for entry in path.parent.iterdir()] == [path.name]


def test_other_tokens_stay_and_the_same_are_replaced(engine: Engine, path: Path) -> None:
    write_configs(engine, path, {2: SMALL, 512: SMALL}, PROBLEM, H200)
    written = write_configs(engine, path, {16: LARGE, 512: LARGE}, PROBLEM, H200)
    assert (written.written, written.notes) == ((16, 512), ())
    assert list(entries(path)) == ["2", "16", "512"]
    assert read_configs(path) == {2: SMALL, 16: LARGE, 512: LARGE}


def test_entries_of_other_tools_stay_verbatim(engine: Engine, path: Path) -> None:
    theirs = {"BLOCK_SIZE_M": 16, "num_ctas": 2, "note": ["x"]}
    place(path, {"0": SMALL.as_keys(), "8": theirs, "4": SMALL.as_keys()})
    written = write_configs(engine, path, {1: LARGE}, PROBLEM, H200)
    assert entries(path)["8"] == theirs
    assert list(entries(path)) == ["0", "1", "4", "8"]
    assert [note for note in written.notes if "8 tokens" in note and "is missing" in note]


@pytest.mark.parametrize("text", ["{ not json", "", "[1, 2]", "\udcff"])
def test_an_unreadable_file_is_kept_as_a_backup(engine: Engine, path: Path, text: str) -> None:
    before = text.encode("utf-8", "surrogateescape")
    place(path, "").write_bytes(before)
    written = write_configs(engine, path, {1: SMALL}, PROBLEM, H200)
    copy = path.with_name(path.name + ".bak")
    assert copy.read_bytes() == before
    assert copy.name in written.notes[0]
    assert read_configs(path) == {1: SMALL}

    path.write_text("again")
    write_configs(engine, path, {1: SMALL}, PROBLEM, H200)
    assert path.with_name(path.name + ".bak2").read_text() == "again"
    assert copy.read_bytes() == before


def test_keys_that_are_no_token_counts_go_to_the_backup(engine: Engine, path: Path) -> None:
    place(path, {"comment": "mine", "4": SMALL.as_keys(), "8": None})
    write_configs(engine, path, {1: LARGE}, PROBLEM, H200)
    assert read_configs(path) == {1: LARGE, 4: SMALL}
    assert json.loads(path.with_name(path.name + ".bak").read_text())["comment"] == "mine"


def test_vllm_notes_entries_tuned_with_another_triton(tmp_path: Path) -> None:
    vllm = ENGINES["vllm"]
    path = vllm.path(tmp_path, PROBLEM, H200)
    write_configs(vllm, path, {1: SMALL, 2: SMALL}, PROBLEM, make_device(triton_version="3.4.0"))
    written = write_configs(vllm, path, {1: LARGE}, PROBLEM, H200)
    assert json.loads(path.read_text())["triton_version"] == "3.6.0"
    assert ["3.4.0" in note and "3.6.0" in note for note in written.notes] == [True]
    assert write_configs(vllm, path, {1: LARGE}, PROBLEM, H200).notes == ()
    assert not path.with_name(path.name + ".bak").exists()


def test_vllm_notes_that_int8_shares_the_file_of_bf16(tmp_path: Path) -> None:
    problem, vllm = make_problem(Dtype.INT8_W8A8), ENGINES["vllm"]
    path = vllm.path(tmp_path, problem, H200)
    assert path == vllm.path(tmp_path, PROBLEM, H200)
    assert "bf16" in write_configs(vllm, path, {1: SMALL}, problem, H200).notes[0]


def test_sglang_up_and_down_are_two_files(tmp_path: Path) -> None:
    sglang = ENGINES["sglang"]
    up, down = (sglang.path(tmp_path, PROBLEM, H200, down=down) for down in (False, True))
    write_configs(sglang, up, {1: SMALL}, PROBLEM, H200)
    with_tma = Config(16, 128, 64, 1, use_tma=True)
    write_configs(sglang, down, {1: with_tma}, PROBLEM, H200)
    assert read_configs(up) == {1: SMALL}
    assert read_configs(down) == {1: with_tma}


def test_a_path_that_the_engine_never_reads_is_refused(
    engine: Engine, path: Path, tmp_path: Path
) -> None:
    for wrong in (path.with_name("mine.json"), path.with_name("E=9,N=1,device_name=A.json")):
        with pytest.raises(EngineFileError, match="never read"):
            write_configs(engine, wrong, {1: SMALL}, PROBLEM, H200)
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_shadows_ours_is_named(tmp_path: Path) -> None:
    sglang = ENGINES["sglang"]
    newer = sglang.path(tmp_path, PROBLEM, make_device(triton_version="3.7.0"))
    place(newer, {"1": SMALL.as_keys()})
    device = make_device(triton_version="3.4.0+git1a2b")
    with pytest.raises(EngineFileError, match="triton_3_7_0"):
        write_configs(sglang, sglang.path(tmp_path, PROBLEM, device), {1: SMALL}, PROBLEM, device)


def test_what_reads_back_otherwise_is_an_error(
    engine: Engine, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def write_another(path: Path, text: str) -> None:
        path.write_text(text.replace('"num_stages": 4', '"num_stages": 5'))

    monkeypatch.setattr(atomic, "write_text", write_another)
    with pytest.raises(EngineFileError, match="does not give back"):
        write_configs(engine, path, {1: SMALL}, PROBLEM, H200)


@pytest.mark.parametrize(
    ("number", "advice"),
    [(errno.ENOSPC, "free some space"), (errno.EDQUOT, "quota"), (errno.EIO, "try again")],
)
def test_a_full_disk_leaves_the_old_file_and_no_other(
    engine: Engine, path: Path, monkeypatch: pytest.MonkeyPatch, number: int, advice: str
) -> None:
    write_configs(engine, path, {1: SMALL}, PROBLEM, H200)

    def refuse(_: int) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "fsync", refuse)
    with pytest.raises(EngineFileError, match=advice) as caught:
        write_configs(engine, path, {2: LARGE}, PROBLEM, H200)
    assert str(path) in str(caught.value)
    assert read_configs(path) == {1: SMALL}
    assert [entry.name for entry in path.parent.iterdir()] == [path.name]


def test_a_failed_replace_leaves_no_temporary_file(
    engine: Engine, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(Path, "replace", refuse)
    with pytest.raises(EngineFileError, match="make the folder writable"):
        write_configs(engine, path, {2: LARGE}, PROBLEM, H200)
    assert list(path.parent.iterdir()) == []


def test_a_folder_that_cannot_be_written(
    engine: Engine, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path.parent.mkdir(parents=True)

    def refuse(*_: object) -> None:
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr(os, "open", refuse)
    with pytest.raises(EngineFileError, match="on a disk that can be written"):
        write_configs(engine, path, {1: SMALL}, PROBLEM, H200)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_read_only_folder(engine: Engine, path: Path) -> None:
    path.parent.mkdir(parents=True)
    path.parent.chmod(0o555)
    with pytest.raises(EngineFileError, match="make the folder writable"):
        write_configs(engine, path, {1: SMALL}, PROBLEM, H200)


def test_a_file_where_the_folder_should_be(engine: Engine, path: Path) -> None:
    place(path.parent, "a file")
    with pytest.raises(EngineFileError, match="a file stands where"):
        write_configs(engine, path, {1: SMALL}, PROBLEM, H200)


def test_a_folder_where_the_file_should_be(engine: Engine, path: Path) -> None:
    path.mkdir(parents=True)
    with pytest.raises(EngineFileError, match="cannot be read"):
        write_configs(engine, path, {1: SMALL}, PROBLEM, H200)


def test_the_mode_of_an_existing_file_is_kept_and_a_new_one_obeys_the_umask(
    engine: Engine, path: Path
) -> None:
    before = os.umask(0o022)
    try:
        write_configs(engine, path, {1: SMALL}, PROBLEM, H200)
        assert stat.S_IMODE(path.stat().st_mode) == 0o644
        path.chmod(0o664)
        write_configs(engine, path, {2: SMALL}, PROBLEM, H200)
        assert stat.S_IMODE(path.stat().st_mode) == 0o664
    finally:
        os.umask(before)


def _write_some(name: str, path: Path, first: int) -> None:
    for tokens in range(first, first + 10):
        write_configs(ENGINES[name], path, {tokens: SMALL}, PROBLEM, H200)


def test_a_link_stays_one(engine: Engine, path: Path, tmp_path: Path) -> None:
    path.parent.mkdir(parents=True)
    target = tmp_path / "elsewhere.json"
    path.symlink_to(target)
    for configs in ({1: SMALL}, {64: SMALL}):
        write_configs(engine, path, configs, PROBLEM, H200)
    assert path.is_symlink()
    assert set(read_configs(target)) == {1, 64}
    assert {file.name for file in tmp_path.iterdir() if file.is_file()} == {target.name}


def test_a_copy_that_is_there_is_not_written_again(tmp_path: Path) -> None:
    """It may be another user's, or one that nobody may write."""
    path = tmp_path / "E=8.json"
    path.write_text("one")
    copy = tmp_path / backup(path)
    os.utime(copy, (1, 1))
    assert backup(path) == copy.name
    assert copy.stat().st_mtime == 1
    second = copy.with_name(f"{path.name}.bak2")
    copy.unlink()
    for link, target in ((copy, path), (second, tmp_path / "nowhere")):
        link.symlink_to(target)  # changes with what it leads to
    assert backup(path) == f"{path.name}.bak3"
    assert not (tmp_path / "nowhere").exists()


def test_a_pipe_in_the_place_of_the_file_is_not_waited_for(engine: Engine, path: Path) -> None:
    path.parent.mkdir(parents=True)
    os.mkfifo(path)
    os.mkfifo(path.with_name(f"{path.name}.bak"))
    with pytest.raises(EngineFileError, match="cannot be written"):
        write_configs(engine, path, {1: SMALL}, PROBLEM, H200)


def test_processes_that_write_at_once_lose_nothing(engine: Engine, path: Path) -> None:
    context = multiprocessing.get_context("fork")
    writers = [
        context.Process(target=_write_some, args=(engine.name, path, first))
        for first in (1, 11, 21, 31)
    ]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join(60)
    assert [writer.exitcode for writer in writers] == [0, 0, 0, 0]
    assert list(read_configs(path)) == list(range(1, 41))
    assert [entry.name for entry in path.parent.iterdir()] == [path.name]


def test_a_lock_that_is_held_too_long_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "file.json"
    held, done = threading.Event(), threading.Event()

    def hold() -> None:
        with atomic.locked(path):
            held.set()
            done.wait(30)

    holder = threading.Thread(target=hold)
    holder.start()
    held.wait(30)
    try:
        with (
            pytest.raises(TimeoutError, match="another process"),
            atomic.locked(path, timeout_s=0.1),
        ):
            pass
    finally:
        done.set()
        holder.join()
    with atomic.locked(path, timeout_s=0.1):
        assert list(tmp_path.iterdir())
    assert list(tmp_path.iterdir()) == []


def test_a_link_in_the_place_of_a_lock_is_not_followed(tmp_path: Path) -> None:
    path, victim = tmp_path / "file.json", tmp_path / "victim"
    path.with_name(".file.json.lock").symlink_to(victim)
    with pytest.raises(OSError, match="symbolic link"), atomic.locked(path):
        pass
    assert not victim.exists()


def _hold(path: Path, link: Connection) -> None:
    with atomic.locked(path):
        link.send(None)
        signal.pause()


def test_the_lock_of_a_killed_process_is_free(tmp_path: Path) -> None:
    path = tmp_path / "file.json"
    context = multiprocessing.get_context("fork")
    mine, theirs = context.Pipe()
    holder = context.Process(target=_hold, args=(path, theirs))
    holder.start()
    mine.recv()
    holder.kill()
    holder.join()
    with atomic.locked(path, timeout_s=0.1):
        pass
    assert list(tmp_path.iterdir()) == []


def test_a_file_system_without_locks_is_locked_by_a_marker(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Lustre that is mounted without ``-o flock``."""

    def no_flock(*_: object) -> None:
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))

    monkeypatch.setattr(fcntl, "flock", no_flock)
    path = tmp_path / "file.json"
    with (
        pytest.warns(UserWarning, match="flock not supported"),
        atomic.locked(path),
        pytest.raises(TimeoutError, match="another process"),
        atomic.locked(path, timeout_s=0.1),
    ):
        pass
    assert list(tmp_path.iterdir()) == []


def test_a_dead_lock_file_holds_nobody_up(engine: Engine, path: Path) -> None:
    place(path.with_name(f".{path.name}.lock"), "")
    write_configs(engine, path, {1: SMALL}, PROBLEM, H200)
    assert [entry.name for entry in path.parent.iterdir()] == [path.name]


def test_no_configs_is_a_mistake_of_the_caller(engine: Engine, path: Path) -> None:
    with pytest.raises(ValueError, match="no configs"):
        write_configs(engine, path, {}, PROBLEM, H200)


def test_warm_starts_read_what_they_can(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert read_configs(path) == {}
    with_tma = Config(16, 64, 64, 1, use_tma=True)
    body = {
        "triton_version": "3.6.0",
        "1": {**SMALL.as_keys(), "SPLIT_K": 1},
        "2": with_tma.as_keys(),
        "4": {**SMALL.as_keys(), "num_ctas": 2},
        "8": "default",
        "x": SMALL.as_keys(),
    }
    assert read_configs(place(path, body)) == {1: SMALL, 2: with_tma, 4: SMALL}
    assert "at 4 tokens: num_ctas 2 is left out" in caplog.text
    assert "8 tokens" in caplog.text
    assert read_configs(place(path, "{")) == {}


def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(EngineFileError, match="no ordinary file"):
        load_body(tmp_path / "pipe")
