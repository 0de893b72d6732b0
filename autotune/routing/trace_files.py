"""Recordings as files, in two forms.

The engines' own: ``topk_ids_layer{L}_idx{I}.pt``, an int32 tensor [tokens, top_k] for each MoE
layer and snapshot, as SGLang's separate tuner reads them. Ours: one ``routing.safetensors`` with
``layer{L}.topk_ids`` and ``layer{L}.sequences`` for each layer, and notes as metadata. A folder
that has ours is read from it alone: the other form does not know where a sequence ends. Snapshots
that came later and say something else are refused.
"""

from __future__ import annotations

import os
import re
import struct
import tempfile
from dataclasses import replace
from pathlib import Path
from pickle import UnpicklingError

import numpy as np
from numpy.typing import NDArray

from autotune.errors import DAMAGED, UsageError
from autotune.routing.trace import LayerRows, RoutingTrace
from autotune.spec.ranges import EXPERTS, LAYERS

COMPACT = "routing.safetensors"
SNAPSHOT_ROWS = 4096
"""SGLang's tool reads the first M rows of a file, and its largest M is this."""
_SNAPSHOT = re.compile(r"topk_ids_layer(\d+)_idx(\d+)\.pt")
_TENSOR = re.compile(r"layer(\d+)\.topk_ids")
_FORMAT = "autotune routing 1"
_MOST_NAMED = 8


def read_trace(folder: Path) -> RoutingTrace:
    """Read the trace in a folder, or one .safetensors file. Raises UsageError for anything but
    expert ids [rows, top_k] of distinct experts, with the same top-k in every layer."""
    file = folder / COMPACT if folder.is_dir() else folder
    if file.suffix == ".safetensors" and file.is_file():
        recording = _checked(_read_compact(file))
        if folder.is_dir():
            _check_not_stale(recording, file)
        return recording
    if not folder.is_dir():
        raise UsageError(f"--topk-ids-dir {folder}: there is no such folder. {_HINT}")
    return _checked(_read_snapshots(folder))


def write_trace(recording: RoutingTrace, folder: Path) -> list[Path]:
    """Both forms into ``folder``, which is made: all of the files or none of them.

    Raises UsageError as ``check_folder`` does, and where writing fails.
    """
    from safetensors import SafetensorError

    check_folder(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder, prefix=".recording-") as staged:
            snapshots = _write_snapshots(recording, Path(staged))
            # Ours is moved first: with it the folder holds everything.
            files = [_write_compact(recording, Path(staged)), *snapshots]
            return [file.rename(folder / file.name) for file in files]
    except (OSError, RuntimeError, SafetensorError) as error:
        raise UsageError(
            f"--output-dir {folder} cannot be written: {error}. "
            "Give a folder that you may write, on a disk with room"
        ) from error


def check_folder(folder: Path) -> None:
    """Raises UsageError where ``folder``, which need not exist, cannot be written, or holds a
    recording: of two in one folder the engines' tool would read a mixture."""
    whole = folder.absolute()
    there = next(path for path in (whole, *whole.parents) if path.exists())
    if not there.is_dir() or not os.access(there, os.W_OK | os.X_OK):
        raise UsageError(
            f"--output-dir {folder} cannot be written: {there} is no folder that you may write. "
            "Give another one"
        )
    if there != whole:
        return
    held = sorted(p.name for p in folder.iterdir() if _SNAPSHOT.fullmatch(p.name))
    held += [COMPACT] if (folder / COMPACT).exists() else []
    if held:
        raise UsageError(
            f"{folder} holds a recording already ({', '.join(held[:3])}"
            f"{' …' if held[3:] else ''}). Give another --output-dir, or remove its files"
        )


_HINT = (
    "It should hold topk_ids_layer{L}_idx{I}.pt for each MoE layer, or a routing.safetensors; "
    "capture-routing writes both"
)


def _read_compact(file: Path) -> RoutingTrace:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(file, framework="np") as opened:
            notes = opened.metadata() or {}
            tensors = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118
    except (*DAMAGED, SafetensorError) as error:
        raise UsageError(f"{file} cannot be read: {error}. Record it again") from error
    layers = {}
    for name, ids in tensors.items():
        if match := _TENSOR.fullmatch(name):
            sequences = tensors.get(f"layer{match[1]}.sequences")
            if (
                sequences is None
                or sequences.shape != ids.shape[:1]
                or not np.issubdtype(sequences.dtype, np.integer)
            ):
                raise UsageError(
                    f"{file}: layer{match[1]}.sequences should have a whole number for each row"
                )
            layers[int(match[1])] = LayerRows(ids, sequences.astype(np.int32))
    if not layers:
        raise UsageError(f"{file} holds no tensor layer{{L}}.topk_ids: it is no recording of ours")
    return RoutingTrace(layers, str(file), notes)


def _check_not_stale(recording: RoutingTrace, file: Path) -> None:
    """Raises UsageError where snapshots beside ``file`` are newer and hold other ids."""
    written = file.stat().st_mtime_ns
    snapshots = [path for path in file.parent.iterdir() if _SNAPSHOT.fullmatch(path.name)]
    if all(path.stat().st_mtime_ns <= written for path in snapshots):
        return
    others = _read_snapshots(file.parent).layers
    same = set(others) == set(recording.layers) and all(
        np.array_equal(rows.ids, recording.layers[layer].ids) for layer, rows in others.items()
    )
    if not same:
        raise UsageError(
            f"{file.parent} holds two recordings: {COMPACT}, and newer topk_ids_layer*.pt with "
            "other ids. Remove the one that you do not mean, or put it into a folder of its own"
        )


def _read_snapshots(folder: Path) -> RoutingTrace:
    """Take each file for one sequence."""
    files: dict[int, dict[int, Path]] = {}
    for path in folder.iterdir():
        if match := _SNAPSHOT.fullmatch(path.name):
            files.setdefault(int(match[1]), {})[int(match[2])] = path
    if not files:
        raise UsageError(f"--topk-ids-dir {folder} holds no recording. {_HINT}")
    layers = {}
    for layer, snapshots in sorted(files.items()):
        tables = [_load(path) for _, path in sorted(snapshots.items())]
        columns = {table.shape[1] for table in tables}
        if len(columns) > 1:
            raise UsageError(
                f"{folder}: the snapshots of layer {layer} have {sorted(columns)} experts a token. "
                "Put the recordings of different models into different folders"
            )
        which = np.repeat(np.arange(len(tables), dtype=np.int32), [len(t) for t in tables])
        layers[layer] = LayerRows(np.concatenate(tables), which)
    return RoutingTrace(layers, str(folder))


def _load(path: Path) -> NDArray[np.int32]:
    import torch

    try:
        tensor = torch.load(path, map_location="cpu", weights_only=True)
    except (*DAMAGED, UnpicklingError, struct.error) as error:
        first = str(error).strip().splitlines()
        raise UsageError(
            f"{path} cannot be read as a tensor: {first[0] if first else type(error).__name__}. "
            "It should be what torch.save wrote of one int32 tensor; nothing else is loaded"
        ) from error
    if not isinstance(tensor, torch.Tensor):
        raise UsageError(f"{path} holds a {type(tensor).__name__}, not one tensor of expert ids")
    if tensor.dtype not in (torch.int32, torch.int64):
        raise UsageError(f"{path} holds {tensor.dtype}; expert ids are int32")
    if tensor.layout != torch.strided or tensor.is_nested or tensor.device.type != "cpu":
        raise UsageError(f"{path} holds no plain tensor; expert ids are a dense one, on the CPU")
    if tensor.ndim != 2:
        raise UsageError(f"{path} is {list(tensor.shape)}; expert ids are [tokens, top_k]")
    if tensor.nbytes > path.stat().st_size:  # of zero strides a few bytes make gigabytes
        raise UsageError(
            f"{path} is {list(tensor.shape)}, more than the file holds. Save it with .contiguous()"
        )
    if tensor.numel() and tensor.max() >= EXPERTS.most:
        raise UsageError(f"{path} names expert {tensor.max()}; a layer's experts are {EXPERTS}")
    ids: NDArray[np.int32] = tensor.clamp(min=-1).to(torch.int32).numpy()
    return ids


def _checked(recording: RoutingTrace) -> RoutingTrace:
    """Return the recording with int32 ids. Raises UsageError where ids are not [rows, top_k] of
    distinct experts."""
    for layer, rows in recording.layers.items():
        LAYERS.check(f"a layer number of {recording.origin}", layer)
        what = f"{recording.origin}: layer {layer}"
        if rows.ids.ndim != 2 or 0 in rows.ids.shape:
            raise UsageError(f"{what} is {list(rows.ids.shape)}; expert ids are [tokens, top_k]")
        if not np.issubdtype(rows.ids.dtype, np.integer):
            raise UsageError(f"{what} holds {rows.ids.dtype}; expert ids are int32")
        if rows.ids.min() < 0:
            raise UsageError(
                f"{what} has negative ids: dropped tokens or padding. Record on one rank, over "
                "all experts, and without CUDA graphs"
            )
        if rows.ids.max() >= EXPERTS.most:
            raise UsageError(f"{what} names expert {rows.ids.max()}; experts are {EXPERTS}")
        if (np.diff(np.sort(rows.ids, axis=1), axis=1) == 0).any():
            raise UsageError(
                f"{what} names an expert twice for one token: no router does. Rows of padding? "
                "Record without CUDA graphs"
            )
    columns = {layer: rows.ids.shape[1] for layer, rows in recording.layers.items()}
    if len(set(columns.values())) > 1:
        raise UsageError(
            f"{recording.origin}: layers differ in experts a token "
            f"({', '.join(f'layer {k}: {v}' for k, v in list(columns.items())[:_MOST_NAMED])}). "
            "Put the recordings of different models into different folders"
        )
    layers = {
        layer: replace(rows, ids=rows.ids.astype(np.int32, copy=False))
        for layer, rows in recording.layers.items()
    }
    return RoutingTrace(layers, recording.origin, recording.notes)


def _write_compact(recording: RoutingTrace, folder: Path) -> Path:
    from safetensors.numpy import save_file

    tensors: dict[str, NDArray[np.int32]] = {}
    for layer, rows in recording.layers.items():
        tensors[f"layer{layer}.topk_ids"] = np.ascontiguousarray(rows.ids)
        tensors[f"layer{layer}.sequences"] = np.ascontiguousarray(rows.sequences)
    path = folder / COMPACT
    save_file(tensors, path, {"format": _FORMAT, **recording.notes})
    return path


def _write_snapshots(recording: RoutingTrace, folder: Path) -> list[Path]:
    """Write files of at least SNAPSHOT_ROWS rows each; one where a layer has fewer."""
    import torch

    names = {
        f"topk_ids_layer{layer}_idx{index}.pt": ids
        for layer, rows in recording.layers.items()
        for index, ids in enumerate(
            np.array_split(rows.ids, max(1, len(rows.ids) // SNAPSHOT_ROWS))
        )
    }
    for name, ids in names.items():
        torch.save(torch.from_numpy(np.ascontiguousarray(ids)), folder / name)
    return [folder / name for name in names]
