"""Registers and stack of a kernel, read from its cubin: a cubin is an ELF file.

A process for NVIDIA's ``cuobjdump -res-usage`` takes longer than all else that a compile found in
the cache takes. The layout of ``.nv.info`` is not documented; tests hold it against cuobjdump.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

_ENTRY_SIZED = 0x04
_FRAME_SIZE, _REGISTER_COUNT = 0x11, 0x2F
"""Attributes of ``.nv.info``, each with (symbol, value): bytes of stack, and registers."""


def usage_of_cubin(cubin: bytes) -> tuple[int, int]:
    """(registers, stack bytes) per thread: the most of any function.

    Raises ValueError where ``cubin`` does not say them in the known layout.
    """
    most = {_FRAME_SIZE: 0, _REGISTER_COUNT: 0}
    try:
        for attribute, value in _attributes(_section(cubin, b".nv.info")):
            if attribute in most:
                most[attribute] = max(most[attribute], value)
    except (struct.error, IndexError) as error:
        raise ValueError(f"a cubin of an unknown layout: {error}") from error
    if not most[_REGISTER_COUNT]:
        raise ValueError("a cubin that does not name its registers")
    return most[_REGISTER_COUNT], most[_FRAME_SIZE]


def _section(elf: bytes, name: bytes) -> bytes:
    """Content of a section of a 64-bit little-endian ELF file."""
    if elf[:6] != b"\x7fELF\x02\x01":
        raise ValueError("no ELF file of 64 bits")
    (table,) = struct.unpack_from("<Q", elf, 0x28)
    size, count, names = struct.unpack_from("<HHH", elf, 0x3A)
    headers = [struct.unpack_from("<IIQQQQ", elf, table + size * i) for i in range(count)]
    names_at = headers[names][4]
    for name_at, _, _, _, offset, length in headers:
        begin = names_at + name_at
        if elf[begin : elf.index(b"\0", begin)] == name:
            return elf[offset : offset + length]
    raise ValueError(f"no section {name.decode()}")


def _attributes(info: bytes) -> Iterator[tuple[int, int]]:
    """(attribute, value) of the entries about a symbol; the others are passed over."""
    at = 0
    while at < len(info):
        form, attribute, size = struct.unpack_from("<BBH", info, at)
        at += 4
        if form != _ENTRY_SIZED:
            continue  # the value stands where others have their size
        if size == 8:
            yield attribute, struct.unpack_from("<II", info, at)[1]
        at += size
