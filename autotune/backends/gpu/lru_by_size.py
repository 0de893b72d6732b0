"""What was made ready for a device, kept for the next time as long as there is room."""

from __future__ import annotations

from collections.abc import Hashable, Iterator
from typing import Generic, TypeVar

Key = TypeVar("Key", bound=Hashable)
Item = TypeVar("Item")


class LruBySize(Generic[Key, Item]):
    """Items by key; what was not used for the longest time makes room for what comes."""

    def __init__(self) -> None:
        self._items: dict[Key, tuple[Item, int]] = {}

    def __len__(self) -> int:
        return len(self._items)

    def __iter__(self) -> Iterator[Key]:
        """The keys, the last used one last."""
        return iter(self._items)

    def get(self, key: Key) -> Item | None:
        """None where it is not there."""
        found = self._items.pop(key, None)
        if found is None:
            return None
        self._items[key] = found
        return found[0]

    def put(self, key: Key, item: Item, size_bytes: int, room_bytes: int) -> None:
        """Keeps ``item``, whatever its size, and of the others the last used ones that fit into
        ``room_bytes`` with it."""
        self._items.pop(key, None)
        self._items[key] = item, size_bytes
        while len(self._items) > 1 and self._size_bytes > room_bytes:
            del self._items[next(iter(self._items))]

    def clear(self) -> None:
        self._items.clear()

    @property
    def _size_bytes(self) -> int:
        return sum(size for _, size in self._items.values())
