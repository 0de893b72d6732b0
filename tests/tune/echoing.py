"""A worker that answers with what it hears, where it is, and dies when told to."""

from __future__ import annotations

import ctypes
import multiprocessing
import os
import signal
from multiprocessing.connection import Connection
from typing import Any

_CONTEXT = multiprocessing.get_context("spawn")


def start_echo(order: object) -> tuple[Connection, Any]:
    ours, theirs = _CONTEXT.Pipe()
    process = _CONTEXT.Process(target=_echo, args=(theirs, order))
    process.start()
    theirs.close()
    return ours, process


def _echo(link: Connection, order: object) -> None:
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # as a worker: dies with the thread that started it
    link.send(("ready", order, os.environ.get("CUDA_VISIBLE_DEVICES"), os.getpid()))
    while (message := link.recv()) != "leave":
        if message == "die":
            os.abort()
        link.send(message)
