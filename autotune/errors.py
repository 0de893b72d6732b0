"""The one exception tree. What a user can cause is an AutotuneError; anything else is a bug.

Every message says what came, what is allowed and what to try. The command line prints it
without a traceback and exits with ``exit_code``.
"""

import errno
from enum import StrEnum

from autotune.exit_codes import ExitCode


class ErrorKind(StrEnum):
    """The subject of an error, for programs: see docs/json.md."""

    USAGE = "usage"
    NOT_SERVED = "not_served"
    EXTRA_MISSING = "extra_missing"
    MODEL = "model"
    DEVICE = "device"
    STORAGE = "storage"
    STORAGE_MISSING = "storage_missing"
    STORAGE_FAILED = "storage_failed"
    STORAGE_LOST = "storage_lost"
    ENGINE_FILE = "engine_file"
    PROVIDER = "provider"
    PROVIDER_MISSING = "provider_missing"
    FILE = "file"
    INTERRUPTED = "interrupted"
    BUG = "bug"


class AutotuneError(Exception):
    """Base of every error that a user's input, files or machine can cause."""

    exit_code = ExitCode.USAGE
    kind = ErrorKind.USAGE


class UsageError(AutotuneError):
    """A flag or a combination of flags that cannot work."""


class NotServedError(UsageError):
    """A model, split in a way, that one serving engine refuses."""

    kind = ErrorKind.NOT_SERVED


class MissingExtraError(AutotuneError):
    """A package that is not installed, or cannot be imported, and that an extra brings."""

    kind = ErrorKind.EXTRA_MISSING


class ModelError(AutotuneError):
    """A model that cannot be found, or whose config does not describe experts."""

    kind = ErrorKind.MODEL


class DeviceError(AutotuneError):
    """A device that is missing, unknown, or lacks what the problem needs."""

    kind = ErrorKind.DEVICE


class StorageError(AutotuneError):
    """A storage that cannot be opened, is busy, or was written by a newer version."""

    kind = ErrorKind.STORAGE


class MissingStorageError(StorageError):
    """A storage that nobody has made yet."""

    kind = ErrorKind.STORAGE_MISSING


class StorageFailedError(StorageError):
    """A storage that failed in the middle of the work, for minutes. What it has taken it keeps."""

    exit_code = ExitCode.FAILED
    kind = ErrorKind.STORAGE_FAILED


class StorageLostError(StorageError):
    """A storage that was deleted, replaced or overwritten in the middle of the work."""

    exit_code = ExitCode.FAILED
    kind = ErrorKind.STORAGE_LOST


class EngineFileError(AutotuneError):
    """An engine config file that cannot be read, is illegal, or cannot be written."""

    kind = ErrorKind.ENGINE_FILE


class ProviderError(AutotuneError):
    """An implementation to compare with that is of an unknown version, or cannot be used."""

    kind = ErrorKind.PROVIDER


class MissingProvider(ProviderError):  # noqa: N818  said of a choice, not of a failure
    """An implementation that is not installed."""

    kind = ErrorKind.PROVIDER_MISSING


_UNWRITABLE = {
    errno.ENOSPC,
    errno.EDQUOT,
    errno.EROFS,
    errno.EACCES,
    errno.EPERM,
    errno.ENOTDIR,
}


def is_unwritable(error: BaseException) -> bool:
    """Return whether the system lets nothing be written: what was tried is not to blame."""
    return isinstance(error, OSError) and error.errno in _UNWRITABLE


DAMAGED = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    EOFError,
    LookupError,
    MemoryError,
    OSError,
    RuntimeError,
    TypeError,
    ValueError,
)
"""What a library raises that reads a damaged file, beside errors of its own."""
