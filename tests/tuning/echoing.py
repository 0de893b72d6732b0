"""A worker that answers with what it hears, where it is, and dies when told to."""

from __future__ import annotations

import os
from multiprocessing.connection import Connection

from autotune.tuning.processes.killable import KillableProcess, ProcessHandle


def start_echo(order: object) -> ProcessHandle:
    process: ProcessHandle = KillableProcess(_echo, order)
    return process


def _echo(link: Connection, order: object) -> None:
    link.send(("ready", order, os.environ.get("CUDA_VISIBLE_DEVICES"), os.getpid()))
    while (message := link.recv()) != "leave":
        if message == "die":
            os.abort()
        link.send(message)
