"""``dashboard``: optuna-dashboard on a storage."""

from __future__ import annotations

import logging
import socket
import sys
from dataclasses import dataclass
from pathlib import Path
from socketserver import ThreadingMixIn
from typing import Annotated, Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

import typer
from optuna.storages import BaseStorage

from autotune.api.own_runs import placed
from autotune.commands.output import Output
from autotune.commands.storage_flag import StorageFlag
from autotune.documents.machine import DashboardDocument
from autotune.errors import StorageError, UsageError
from autotune.exit_codes import ExitCode
from autotune.extras import needed
from autotune.report.dashboard.artifacts import artifact_folder, open_artifacts
from autotune.report.dashboard.listing import list_for_people
from autotune.report.dashboard.note_writer import refresh_notes
from autotune.spec.ranges import Range
from autotune.studies.coordination.leases import Census
from autotune.studies.storage.open import open_storage
from autotune.studies.storage.url import public_url, storage_url
from autotune.studies.study_record import stored_studies

_log = logging.getLogger(__name__)
_PORTS = Range(0, 65_535)


class _Server(ThreadingMixIn, WSGIServer):
    """A server with a thread for each request: a browser asks for several things at once."""

    daemon_threads = True
    allow_reuse_address = False


class _QuietHandler(WSGIRequestHandler):
    """A handler whose requests go to the debug log."""

    def log_message(self, format: str, *args: Any) -> None:
        _log.debug(format, *args)


@dataclass(frozen=True, kw_only=True)
class Flags(StorageFlag):
    """Which storage is shown, and the address."""

    host: Annotated[
        str, typer.Option("--host", help="address to listen on: this one is for this machine only")
    ] = "127.0.0.1"
    port: Annotated[int, typer.Option("--port", help="a free one where it is taken")] = 8080
    artifacts: Annotated[
        Path | None,
        typer.Option("--artifacts", show_default="beside the storage", help="folder of pictures"),
    ] = None


def run(flags: Flags, output: Output) -> int:
    """Serve until Ctrl-C. The address is the one line on stdout."""
    with needed("dashboard", "dashboard"):
        import optuna_dashboard

    _PORTS.check("--port", flags.port)
    storage = open_storage(flags.storage, create=False)
    folder = flags.artifacts or artifact_folder(flags.storage)
    _refresh(storage, folder)
    list_for_people(storage)
    app = optuna_dashboard.wsgi(storage, artifact_store=_artifacts(folder))
    with _serve(flags.host, flags.port, app) as server:
        host = f"[{flags.host}]" if ":" in flags.host else flags.host
        address = f"http://{host}:{server.server_port}/dashboard/"
        output.result(DashboardDocument(url=address), address)
        sys.stdout.flush()
        output.note(f"showing {public_url(storage_url(flags.storage))}; Ctrl-C ends it")
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            output.note("stopped")
    return ExitCode.DONE


def _refresh(storage: BaseStorage, folder: Path) -> None:
    """Bring notes up to date, unless a run is in work and does so itself."""
    try:
        if not Census(storage).living():
            refresh_notes(storage, placed(stored_studies(storage)), folder)
    except (StorageError, OSError) as error:
        _log.debug("notes are left as they are: %s", error)


def _artifacts(folder: Path) -> Any:
    try:
        return open_artifacts(folder)
    except OSError as error:
        _log.warning("no pictures: %s cannot be made: %s", folder, error.strerror)
        return None


def _serve(host: str, port: int, app: Any) -> WSGIServer:
    """Listen on ``port``, or a free one where it is taken. Raises UsageError for a foreign host."""
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        server_class = type("_FamilyServer", (_Server,), {"address_family": family})
        place = (host, port if _is_free(family, host, port) else 0)
        return make_server(*place, app, server_class=server_class, handler_class=_QuietHandler)
    except OSError as error:
        raise UsageError(
            f"--host {host} --port {port} cannot be listened on: {error.strerror or error}. "
            "Try --host 127.0.0.1"
        ) from error


def _is_free(family: int, host: str, port: int) -> bool:
    """Return False too where somebody listens on the port under another address of the machine."""
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return False
    return True
