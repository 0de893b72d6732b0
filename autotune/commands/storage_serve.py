"""``storage serve``: serves a storage by gRPC to workers on other machines."""

from __future__ import annotations

import argparse
import sys
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from optuna.storages import BaseStorage, get_storage

from autotune.commands.output import Output
from autotune.commands.storage_flag import add_storage_flag
from autotune.errors import StorageError, UsageError
from autotune.exit_codes import ExitCode
from autotune.studies.storage.open import close_storage, open_storage, public_url
from autotune.studies.storage.url import GRPC_PORT, parse_address

_THREADS = 10
"""Optuna's own number: a call takes milliseconds."""
_LOOPBACK = ("127.0.0.1", "localhost", "::1")


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Add which storage is served, and the address."""
    add_storage_flag(parser)
    parser.add_argument("--host", default="127.0.0.1", help="(127.0.0.1: this machine only)")
    parser.add_argument("--port", type=int, default=GRPC_PORT, help=f"({GRPC_PORT})")


def run(flags: argparse.Namespace, output: Output) -> int:
    """Serve a storage to other machines by gRPC, until Ctrl-C. The address is on stdout."""
    if parse_address(flags.storage).url is None:
        raise UsageError("'storage serve' serves a SQLite file or a database, nothing else")
    storage = open_storage(flags.storage, create=True)
    server = _grpc_server(get_storage(storage), flags.host, flags.port)
    server.start()
    address = f"grpc://{flags.host}:{flags.port}"
    output.result({"url": address}, address)
    sys.stdout.flush()
    if flags.host not in _LOOPBACK:
        output.note("whoever reaches this port may read and change the storage: there is no login")
    output.note(f"serving {public_url(flags.storage)}; Ctrl-C ends it")
    try:
        server.wait_for_termination()
    except KeyboardInterrupt:
        output.note("stopped")
    finally:
        server.stop(grace=1.0).wait()
        close_storage(storage)
    return ExitCode.DONE


def _grpc_server(storage: BaseStorage, host: str, port: int) -> Any:
    """Optuna's ``make_server``, but alone on its port: two servers would share the callers."""
    try:
        import grpc
        from optuna.storages._grpc.auto_generated import api_pb2_grpc
        from optuna.storages._grpc.servicer import OptunaStorageProxyService

    except ImportError as error:
        raise StorageError(
            "serving needs a package that is not installed: pip install 'moe-autotune[grpc]'"
        ) from error
    server = grpc.server(ThreadPoolExecutor(_THREADS), options=[("grpc.so_reuseport", 0)])
    add: Any = api_pb2_grpc.add_StorageServiceServicer_to_server
    add(OptunaStorageProxyService(storage), server)
    try:
        server.add_insecure_port(f"{host}:{port}")
    except RuntimeError as error:
        raise UsageError(
            f"--host {host} --port {port} cannot be listened on. Is the port taken?"
        ) from error
    return server
