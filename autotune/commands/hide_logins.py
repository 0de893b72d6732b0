"""What other users see of this process."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence

from autotune.errors import StorageError

_log = logging.getLogger(__name__)


def hide_logins(argv: Sequence[str], storages: Iterable[str | None]) -> None:
    """Show the command line without the storages' passwords, where it has any.

    For the moment until then they were to be seen: AUTOTUNE_STORAGE, or the database's own file
    of passwords, never shows them.
    """
    shown = list(argv)
    for storage in filter(None, storages):
        shown = _scrubbed(shown, storage)
    if shown == list(argv):
        return
    try:
        from setproctitle import setproctitle
    except ImportError:
        _log.warning(
            "other users of this machine can read the password in the command line: put the URL "
            "into AUTOTUNE_STORAGE instead of --storage"
        )
        return
    setproctitle(" ".join(("autotune", *shown)))


def _scrubbed(words: list[str], storage: str) -> list[str]:
    from autotune.studies.storage.url import parse_address, scrub  # SQLAlchemy: not for ``--help``

    try:
        address = parse_address(storage)
    except StorageError:
        return words  # the command says so
    return [scrub(address, word) for word in words]
