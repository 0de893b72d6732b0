"""Packs vLLM's and SGLang's servers for a GPU machine that reaches no registry.

python benchmarks/serving/pack.py OUT [--part-mib 45]   # here: downloads wheels with pip
bash PART/unpack.sh SITE PART                           # there, for each of OUT/0, OUT/1, …

The machine there: Linux on x86-64, Python 3.12, torch 2.11 with CUDA 13, Triton 3.6, an sm_90 GPU.
vLLM's libraries use torch's stable ABI, so those of 0.33.0 load there; of its attention the part
for Hopper alone is taken, of sglang-kernel the last build for torch 2.11. Machine code for other
GPUs is blanked in the libraries: they pack to a third. Then ``. benchmarks/serving/env.sh SITE
vllm`` (or ``sglang``) sets what the servers need for want of what packages.txt leaves out.
"""

from __future__ import annotations

import argparse
import shutil
import struct
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

ENGINES = ("vllm==0.33.0", "sglang==0.5.23", "sglang-kernel==0.4.5")
PLATFORMS = ("1", "2014", *(f"_2_{n}" for n in (17, 24, 26, 27, 28, 31, 34, 35)))
HERE = Path(__file__).parent
ARCHITECTURE = 90
_FATBIN = 0xBA55ED50
_PTX, _CUBIN = 1, 2
_UNUSED = [
    "vllm-rs",
    "_vllm_fa2_C",
    "_flashmla",
    "_flashkda",
    "_qutlass",
    "_deepselect",
    "fmha_sm100",
    "/infllm_v2/",
]
_STUB = """def __getattr__(name):
    if name.startswith("__"):
        raise AttributeError(name)
"""
"""For a module of sgl_kernel whose library is left out."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("--part-mib", type=int, default=45, help="the most that a part may have")
    flags = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        wheels, packed = Path(folder, "wheels"), Path(folder, "packed")
        packed.mkdir()
        download(wheels, *ENGINES)
        lines = (HERE / "packages.txt").read_text().splitlines()
        download(packed, *(line for line in lines if line and not line.startswith("#")))
        vllm, kernel, sglang = (
            next(wheels.glob(f"{stem}-*.whl")) for stem in ("vllm", "sglang_kernel", "sglang")
        )
        repack(vllm, packed / "vllm.zip", lambda name: not name.endswith(".so"))
        for stem in ("/_C_stable", "_moe_C", "_fa3_C", "deep_gemm", "spinloop", "fs_io", "cumem"):
            repack(
                vllm,
                packed / f"{stem.strip('/')}.zip",
                lambda name, s=stem: name.endswith(".so") and s in name,
            )
        repack(sglang, packed / "sglang.zip", lambda name: not name.endswith(".so"))
        repack(
            kernel,
            packed / "kernel.zip",
            lambda name: name.endswith((".py", "sm90/common_ops.abi3.so", "METADATA")),
        )
        with zipfile.ZipFile(packed / "kernel.zip", "a") as out:
            out.writestr("sgl_kernel/infllm_v2.py", _STUB)
        for i, files in enumerate(parts(list(packed.iterdir()), flags.part_mib << 20)):
            part = flags.out / str(i)
            part.mkdir(parents=True)
            for file in files:
                shutil.copy(file, part)
            shutil.copy(HERE / "unpack.sh", part)
            print(part, sum(file.stat().st_size for file in files) >> 20, "MiB")


def download(folder: Path, *names: str) -> None:
    """Download the wheels of these packages, and not what they need, for Python 3.12 on Linux."""
    pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:"]
    pip += ["--python-version", "3.12", "--implementation", "cp", "--dest", str(folder)]
    for platform in PLATFORMS:
        pip += ["--platform", f"manylinux{platform}_x86_64"]
    subprocess.run([*pip, *names], check=True)


def repack(wheel: Path, target: Path, keep: Callable[[str], bool]) -> None:
    """Write the wheel's files that are kept, libraries without code for other GPUs."""
    with zipfile.ZipFile(wheel) as source, zipfile.ZipFile(target, "w") as out:
        for name in source.namelist():
            if keep(name) and not any(word in name for word in _UNUSED):
                data = source.read(name)
                if name.endswith(".so"):
                    data = for_one_gpu(data)
                out.writestr(name, data, zipfile.ZIP_DEFLATED, compresslevel=6)


def for_one_gpu(library: bytes) -> bytes:
    """Return the ELF library with zeros in place of machine code for other architectures, and of
    PTX where there is machine code for this one. Its size and layout stay."""
    data = bytearray(library)
    for begin, end in _sections(library, ".nv_fatbin"):
        at = begin
        while at < end:
            magic, _, head, size = struct.unpack_from("<IHHQ", data, at)
            if magic != _FATBIN:
                at += 8  # padding between two
                continue
            entries = list(_entries(data, at + head, at + head + size))
            native = (_CUBIN, ARCHITECTURE) in ((kind, arch) for kind, arch, _, _ in entries)
            for kind, arch, start, length in entries:
                if (kind, arch) != (_CUBIN, ARCHITECTURE) and (kind == _CUBIN or native):
                    data[start : start + length] = bytes(length)
            at += head + size
    return bytes(data)


def _entries(data: bytearray, at: int, end: int) -> Iterator[tuple[int, int, int, int]]:
    """Yield kind, architecture, start and length of each code in a fatbin."""
    while at < end:
        kind, _, head, size = struct.unpack_from("<HHIQ", data, at)
        (architecture,) = struct.unpack_from("<I", data, at + 28)
        yield kind, architecture, at + head, size
        at += head + size


def _sections(library: bytes, wanted: str) -> Iterator[tuple[int, int]]:
    """Yield begin and end of the sections of this name in a 64-bit ELF file."""
    (table,) = struct.unpack_from("<Q", library, 0x28)
    size, count, names = struct.unpack_from("<HHH", library, 0x3A)
    heads = [struct.unpack_from("<IIQQQQIIQQ", library, table + i * size) for i in range(count)]
    for head in heads:
        start = heads[names][4] + head[0]
        if library[start : library.index(b"\0", start)].decode() == wanted:
            yield head[4], head[4] + head[5]


def parts(files: list[Path], most: int) -> list[list[Path]]:
    """Share the files out, the largest first, into parts of at most this size."""
    shared: list[list[Path]] = []
    for file in sorted(files, key=lambda file: -file.stat().st_size):
        size = file.stat().st_size
        for part in shared:
            if size + sum(other.stat().st_size for other in part) <= most:
                part.append(file)
                break
        else:
            shared.append([file])
    return shared


if __name__ == "__main__":
    main()
