from __future__ import annotations

from autotune.backends.gpu.lru_by_size import LruBySize


def test_what_was_not_used_longest_makes_room() -> None:
    shelf: LruBySize[str, int] = LruBySize()
    for name in "abc":
        shelf.put(name, ord(name), 10, room_bytes=30)
    assert shelf.get("a") == ord("a")
    shelf.put("d", ord("d"), 10, room_bytes=30)
    assert list(shelf) == ["c", "a", "d"]
    assert shelf.get("b") is None


def test_the_last_one_is_kept_whatever_its_size() -> None:
    shelf: LruBySize[str, int] = LruBySize()
    shelf.put("a", 1, 10, room_bytes=30)
    shelf.put("b", 2, 100, room_bytes=30)
    assert list(shelf) == ["b"]
    shelf.clear()
    assert len(shelf) == 0


def test_a_key_that_is_put_again_counts_once() -> None:
    shelf: LruBySize[str, int] = LruBySize()
    for value in range(5):
        shelf.put("a", value, 10, room_bytes=25)
    shelf.put("b", 9, 10, room_bytes=25)
    assert (shelf.get("a"), shelf.get("b")) == (4, 9)
