"""``storage check``, ``backup``, ``upgrade`` and ``serve``."""

from __future__ import annotations

import argparse
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from optuna.storages import BaseStorage, get_storage

from autotune.commands.output import Output
from autotune.commands.storage_flag import add_storage_flag
from autotune.errors import StorageError, UsageError
from autotune.report.terminal.tables import rows_table
from autotune.studies.storage.backup import back_up, dump_tool, upgrade
from autotune.studies.storage.check import Finding, condition
from autotune.studies.storage.open import close_storage, open_storage, public_url
from autotune.studies.storage.url import GRPC_PORT, StorageKind, parse_address

_THREADS = 10
"""Optuna's own number: a call takes milliseconds."""
_LOOPBACK = ("127.0.0.1", "localhost", "::1")


def add_check_storage_flags(parser: argparse.ArgumentParser) -> None:
    """Which."""
    add_storage_flag(parser)


def add_backup_flags(parser: argparse.ArgumentParser) -> None:
    """Where to."""
    add_storage_flag(parser)
    parser.add_argument("file", type=Path, nargs="?", help="default: beside it, with the time")


def add_upgrade_flags(parser: argparse.ArgumentParser) -> None:
    """Whether there is a copy."""
    add_storage_flag(parser)
    parser.add_argument("--backed-up", action="store_true", help="a server's: I have a copy")


def add_serve_flags(parser: argparse.ArgumentParser) -> None:
    """To whom."""
    add_storage_flag(parser)
    parser.add_argument("--host", default="127.0.0.1", help="(127.0.0.1: this machine only)")
    parser.add_argument("--port", type=int, default=GRPC_PORT, help=f"({GRPC_PORT})")


def check_storage_command(args: argparse.Namespace, output: Output) -> int:
    """What the storage is made of. 1 where something must be mended."""
    found = condition(args.storage)
    rows = [{"what": f.what, "state": _state(f), "detail": f.detail} for f in found]
    output.result({"checks": rows}, rows_table(rows))
    return int(any(finding.fault for finding in found))


def _state(finding: Finding) -> str:
    return "error" if finding.fault else "warning" if finding.doubt else "ok"


def backup_command(args: argparse.Namespace, output: Output) -> int:
    """Copy a storage that may be in use."""
    path = back_up(args.storage, args.file)
    output.result({"backup": str(path)}, f"wrote {path}")
    tool = dump_tool(parse_address(args.storage))
    if tool and parse_address(args.storage).kind is StorageKind.SERVER:
        output.note(f"each study was copied by itself; {tool} copies the database at one moment")
    return 0


def upgrade_command(args: argparse.Namespace, output: Output) -> int:
    """Bring an older schema up to date, after a backup."""
    version, copy = upgrade(args.storage, backed_up=args.backed_up)
    if copy is not None:
        output.note(f"the storage as it was: {copy}")
    output.result(
        {"schema": version, "backup": str(copy) if copy else None},
        f"{public_url(args.storage)} has schema {version}",
    )
    return 0


def serve_command(args: argparse.Namespace, output: Output) -> int:
    """Serve a storage to other machines by gRPC, until Ctrl-C. The address is on stdout."""
    if parse_address(args.storage).url is None:
        raise UsageError("'storage serve' serves a SQLite file or a database, nothing else")
    storage = open_storage(args.storage, create=True)
    server = _grpc_server(get_storage(storage), args.host, args.port)
    server.start()
    address = f"grpc://{args.host}:{args.port}"
    output.result({"url": address}, address)
    sys.stdout.flush()
    if args.host not in _LOOPBACK:
        output.note("whoever reaches this port may read and change the storage: there is no login")
    output.note(f"serving {public_url(args.storage)}; Ctrl-C ends it")
    try:
        server.wait_for_termination()
    except KeyboardInterrupt:
        output.note("stopped")
    finally:
        server.stop(grace=1.0).wait()
        close_storage(storage)
    return 0


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
