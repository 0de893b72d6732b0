"""Kernels run compiled where there is a GPU and in Triton's interpreter elsewhere."""

from __future__ import annotations

import logging
import os
import signal
from collections.abc import Iterator
from typing import TYPE_CHECKING

import hypothesis
import pytest

from autotune.backends.detect import has_gpu

if TYPE_CHECKING:
    from servers import Server

# A shell starts what it runs in the background deaf to Ctrl-C, nohup to hangups; so would all be
# that tests start.
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGHUP, signal.SIG_DFL)
hypothesis.settings.register_profile("few", deadline=None)  # a busy machine is no fault
hypothesis.settings.register_profile("many", deadline=None, max_examples=10_000)
hypothesis.settings.load_profile("few")  # pytest --hypothesis-profile many
# Read when torch and numpy are first imported. Tensors are tiny: threads that wait for each other
# take longer than the work.
os.environ.setdefault("OMP_NUM_THREADS", "1")
HAS_GPU = has_gpu()
if not HAS_GPU:
    os.environ["TRITON_INTERPRET"] = "1"  # read when triton is first imported


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skips what needs a GPU where there is none."""
    if HAS_GPU:
        return
    skip = pytest.mark.skip(reason="needs a GPU")
    for item in items:
        if item.get_closest_marker("gpu"):
            item.add_marker(skip)


@pytest.fixture(autouse=True, scope="module")
def _interpreter_for_kernels_alone(request: pytest.FixtureRequest) -> Iterator[None]:
    """Processes that other tests start compile: the interpreter is this process's affair."""
    with pytest.MonkeyPatch.context() as patch:
        if "kernels" not in request.path.parts:
            patch.delenv("TRITON_INTERPRET", raising=False)
        yield


@pytest.fixture(autouse=True)
def _log_of_a_caller() -> Iterator[None]:
    """The logger as callers find it: the command line, which tests run too, sets it up."""
    log = logging.getLogger("autotune")
    kept = log.handlers, log.level, log.propagate
    log.handlers, log.level, log.propagate = [], logging.NOTSET, True
    yield
    log.handlers, log.level, log.propagate = kept


@pytest.fixture(scope="session")
def device() -> str:
    """PyTorch's name of where kernels run in this session."""
    return "cuda" if HAS_GPU else "cpu"


@pytest.fixture(scope="session")
def postgres() -> Iterator[Server]:
    """A private PostgreSQL, or a skip."""
    import servers

    with servers.postgres() as server:
        yield server
