"""What other users see of this process."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from autotune.errors import StorageError

if TYPE_CHECKING:
    from autotune.studies.storage.url import StorageAddress

_log = logging.getLogger(__name__)


def hide_logins(argv: Sequence[str], storages: Iterable[str | None]) -> None:
    """Show the command line without the storages' passwords, where it has any.

    For the moment until then they were to be seen: AUTOTUNE_STORAGE, or the database's own file
    of passwords, never shows them.
    """
    shown = list(argv)
    for address in filter(None, map(_address, storages)):
        shown = [address.scrub(word) for word in shown]
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


def _address(storage: str | None) -> StorageAddress | None:
    if not storage:
        return None
    from autotune.studies.storage.url import parse_address  # SQLAlchemy: not for ``--help``

    try:
        return parse_address(storage)
    except StorageError:
        return None  # the command says so
