from __future__ import annotations

import os
import pickle
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from autotune.errors import UsageError
from autotune.routing.trace import LayerRows, RoutingTrace
from autotune.routing.trace_files import COMPACT, read_trace, write_trace


def recording_of(rows: int = 40, layers: tuple[int, ...] = (3, 4), shift: int = 0) -> RoutingTrace:
    rng = np.random.default_rng(shift)
    table = {
        layer: LayerRows(
            np.stack([rng.permutation(8)[:2] for _ in range(rows)]).astype(np.int32),
            (np.arange(rows) // 10).astype(np.int32),
        )
        for layer in layers
    }
    return RoutingTrace(table, "test", {"model": "tiny"})


def save(folder: Path, tensor: Any, layer: int = 0, index: int = 0) -> None:
    folder.mkdir(exist_ok=True)
    torch.save(tensor, folder / f"topk_ids_layer{layer}_idx{index}.pt")


def test_both_forms_hold_what_was_written(tmp_path: Path) -> None:
    recording = recording_of()
    files = write_trace(recording, tmp_path / "ids")
    assert {file.name for file in files} == {
        COMPACT,
        "topk_ids_layer3_idx0.pt",
        "topk_ids_layer4_idx0.pt",
    }
    compact = read_trace(tmp_path / "ids")
    assert compact.digest == recording.digest
    assert compact.notes["model"] == "tiny"
    (tmp_path / "ids" / COMPACT).unlink()
    snapshots = read_trace(tmp_path / "ids")
    for layer, rows in recording.layers.items():
        assert np.array_equal(snapshots.layers[layer].ids, rows.ids)


def test_snapshots_are_what_the_engines_tool_reads(tmp_path: Path) -> None:
    """An int32 tensor [at least 4096, top_k] for each layer and index."""
    write_trace(recording_of(rows=9000, layers=(1,)), tmp_path)
    tensors = [torch.load(tmp_path / f"topk_ids_layer1_idx{i}.pt") for i in (0, 1)]
    assert all(t.dtype == torch.int32 and t.shape[1] == 2 and len(t) >= 4096 for t in tensors)
    assert sum(map(len, tensors)) == 9000
    assert not (tmp_path / "topk_ids_layer1_idx2.pt").exists()
    sequences = read_trace(tmp_path / COMPACT).layers[1].sequences
    assert len(set(sequences.tolist())) == 900


def test_each_snapshot_is_one_sequence(tmp_path: Path) -> None:
    for index in range(3):
        save(tmp_path, torch.tensor([[index, 3], [4, 5]]), index=index)  # int64 will do
    rows = read_trace(tmp_path).layers[0]
    assert rows.ids[:, 0].tolist() == [0, 4, 1, 4, 2, 4]
    assert rows.sequences.tolist() == [0, 0, 1, 1, 2, 2]
    assert rows.ids.dtype == np.int32


class _Harmful:
    def __reduce__(self) -> tuple[Callable[..., Any], tuple[str]]:
        return (Path.touch, (Path("harmed"),))


BAD: dict[str, tuple[Any, str]] = {
    "a list": ([1, 2], "holds a list, not one tensor"),
    "floats": (torch.ones(3, 2), "holds torch.float32; expert ids are int32"),
    "one axis": (torch.arange(4, dtype=torch.int32), r"is \[4\]; expert ids are"),
    "no rows": (torch.zeros((0, 2), dtype=torch.int32), r"is \[0, 2\]; expert ids are"),
    "padding": (torch.tensor([[0, 1], [-1, -1]]), "negative ids"),
    "int64 beyond int32": (torch.tensor([[0, 2**32 + 1]]), "names expert 4294967297"),
    "int64 below int32": (torch.tensor([[0, 1 - 2**32]]), "negative ids"),
    "2^30 ids of one": (torch.zeros(1, 1, dtype=torch.int32).expand(2**30, 1), "than the file"),
    "sparse": (torch.tensor([[0, 1]]).to_sparse(), "no plain tensor"),
    "no content": (torch.tensor([[0, 1]], device="meta"), "no plain tensor"),
    "one expert twice": (torch.tensor([[0, 1], [2, 2]]), "names an expert twice"),
    "code": (_Harmful(), "cannot be read as a tensor"),
}


@pytest.mark.parametrize("what", BAD)
def test_what_is_no_recording_is_refused(
    what: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content, words = BAD[what]
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "ids"
    save(folder, content)
    with pytest.raises(UsageError, match=words):
        read_trace(folder)
    assert not Path("harmed").exists()


def test_a_pickle_that_is_no_torch_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "topk_ids_layer0_idx0.pt").write_bytes(pickle.dumps({"a": 1}) + b"?")
    with pytest.raises(UsageError, match="topk_ids_layer0_idx0"):
        read_trace(tmp_path)


def test_a_damaged_pickle_is_refused(tmp_path: Path) -> None:
    # The marks of pickle are out of balance: the reader takes from an empty stack.
    (tmp_path / "topk_ids_layer0_idx0.pt").write_bytes(b"\x80\x02t.")
    with pytest.raises(UsageError, match="cannot be read as a tensor"):
        read_trace(tmp_path)


def test_layers_of_different_models_are_refused(tmp_path: Path) -> None:
    save(tmp_path, torch.tensor([[0, 1]]), layer=0)
    save(tmp_path, torch.tensor([[0, 1, 2]]), layer=1)
    with pytest.raises(UsageError, match="layer 0: 2, layer 1: 3"):
        read_trace(tmp_path)
    save(tmp_path, torch.tensor([[0, 1, 2]]), layer=0, index=1)
    with pytest.raises(UsageError, match="snapshots of layer 0"):
        read_trace(tmp_path)


def test_missing_and_foreign_folders(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no such folder"):
        read_trace(tmp_path / "nowhere")
    with pytest.raises(UsageError, match="holds no recording"):
        read_trace(tmp_path)
    (tmp_path / COMPACT).write_bytes(b"no tensors")
    with pytest.raises(UsageError, match="cannot be read"):
        read_trace(tmp_path)


@pytest.mark.parametrize("left", [COMPACT, "topk_ids_layer3_idx0.pt"])
def test_another_recording_is_not_mixed_in(left: str, tmp_path: Path) -> None:
    write_trace(recording_of(layers=(3, 4)), tmp_path)
    for file in tmp_path.iterdir():
        if file.name != left:
            file.unlink()
    with pytest.raises(
        UsageError, match=f"holds a recording already .{left}.. Give another --output"
    ):
        write_trace(recording_of(layers=(3,)), tmp_path)
    assert [file.name for file in tmp_path.iterdir()] == [left]


def test_an_interruption_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    saved = torch.save

    def save_one(tensor: Any, path: Path) -> None:
        if "layer4" in path.name:
            raise KeyboardInterrupt
        saved(tensor, path)

    monkeypatch.setattr(torch, "save", save_one)
    with pytest.raises(KeyboardInterrupt):
        write_trace(recording_of(), tmp_path)
    assert not list(tmp_path.iterdir())


def test_newer_snapshots_of_another_recording_are_refused(tmp_path: Path) -> None:
    write_trace(recording_of(), tmp_path)
    again = time.time() + 60
    for file in tmp_path.glob("*.pt"):
        os.utime(file, (again, again))  # as a copy of the folder may have them
    assert read_trace(tmp_path).digest == recording_of().digest
    save(tmp_path, torch.tensor([[0, 1]]), layer=3)
    os.utime(tmp_path / "topk_ids_layer3_idx0.pt", (again, again))
    with pytest.raises(UsageError, match=r"holds two recordings: routing.safetensors, and newer"):
        read_trace(tmp_path)
    assert read_trace(tmp_path / COMPACT).digest == recording_of().digest


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="cannot be written"):
        write_trace(recording_of(), tmp_path / "file" / "ids")
