"""What an engine builds at its first call, ten seconds each, is begun beside its import."""

from __future__ import annotations

import logging
from contextlib import suppress
from multiprocessing.connection import Connection

from autotune.backends.gpu.providers import PROVIDERS, build_ahead
from autotune.spec.problem import Problem
from autotune.tuning.processes.killable import KillableProcess

_log = logging.getLogger(__name__)


def builds_ahead(selector: str, provider: str) -> bool:
    """True if a provider's first call on the device has something built."""
    return selector.startswith("cuda") and bool(PROVIDERS[provider].builder)


class FirstBuilds:
    """The handle of a process that builds, and ends by itself; what fails is built by the measuring
    process."""

    def __init__(self, provider: str, problem: Problem) -> None:
        """Begins at once."""
        self._provider = provider
        self._process: KillableProcess[None, list[str]] = KillableProcess(
            _serve, provider, problem, leads_group=True, is_quiet=True
        )

    def close(self) -> None:
        """End it with the compilers that it has started."""
        with suppress(EOFError, OSError):
            while self._process.link.poll():
                for words in self._process.link.recv():
                    _log.debug("built ahead for %s: %s", self._provider, words)
        self._process.kill()


def _serve(link: Connection, provider: str, problem: Problem) -> None:
    try:
        said = build_ahead(provider, problem)
    except Exception as error:  # noqa: BLE001  an engine's own code
        said = [f"{type(error).__name__}: {error}"]
    with suppress(OSError):
        link.send(said)
