"""``python -m backend``: start the server and say where it is; with a word behind it, see `backend.commands`."""

from __future__ import annotations

from wara.waiting import wait_briefly

if __name__ == "__main__":
    wait_briefly()  # before what is imported below imports numpy

import errno
import os
import socket
import ssl
import sys

import uvicorn
from pydantic import ValidationError

from backend import heap, logs, told
from backend.main import create_app, prepare
from backend.settings import Settings
from wara.errors import InputError

GRACEFUL_SECONDS = 3


class _Server(uvicorn.Server):
    """A server that says its address once it answers."""

    def __init__(self, config: uvicorn.Config, address: str) -> None:
        super().__init__(config)
        self._address = address

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started:
            sys.stdout.write(f"WaRA Studio is ready: {self._address}\n")
            sys.stdout.flush()


def main() -> int:
    """Start the server, or run the command that is named; return the exit code."""
    # Images, weights and the database are for this user alone.
    os.umask(0o077)
    heap.share_one_heap()
    if len(sys.argv) > 1:
        from backend.commands import run

        return run()
    try:
        settings = Settings()
        _require_tls(settings)
        listener = _listen(settings)
    except (InputError, ValidationError) as error:
        return _refuse(error)
    port = listener.getsockname()[1]
    settings = settings.model_copy(update={"port": port})
    logs.configure(settings.log_level, settings.log_format)
    app = create_app(settings)
    try:
        # Claimed before the server starts, so that a second start ends with a sentence.
        prepare(app.state.parts)
    except told.EXPECTED as error:
        return _refuse(error)
    config = uvicorn.Config(
        app,
        log_config=None,
        log_level="warning",
        access_log=False,
        server_header=False,
        # Believed of trusted proxies alone: see `backend.proxies`.
        proxy_headers=False,
        ssl_certfile=settings.tls_cert,
        ssl_keyfile=settings.tls_key,
        timeout_graceful_shutdown=GRACEFUL_SECONDS,
    )
    server = _Server(config, settings.base_url(port) + settings.root_path)
    server.run(sockets=[listener])
    return 0 if server.started else 1


def _require_tls(settings: Settings) -> None:
    if settings.tls_cert is None or settings.tls_key is None:
        return
    try:
        ssl.create_default_context(ssl.Purpose.CLIENT_AUTH).load_cert_chain(settings.tls_cert, settings.tls_key)
    except (OSError, ssl.SSLError) as error:
        raise InputError(
            "The certificate and its key cannot be used",
            seen=f"{settings.tls_cert}, {settings.tls_key}: {error.strerror or type(error).__name__}",
            remedy="Set WARA_TLS_CERT and WARA_TLS_KEY to two PEM files that belong together, the key without a "
            "password, and let this user read them.",
            code="tls-files",
        ) from error


def _listen(settings: Settings) -> socket.socket:
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((settings.host, settings.port))
    except (socket.gaierror, UnicodeError) as error:
        listener.close()
        raise _no_address(settings.host) from error
    except OSError as error:
        listener.close()
        if error.errno == errno.EADDRNOTAVAIL:
            raise _no_address(settings.host) from error
        raise InputError(
            "The server cannot listen at this address",
            seen=f"{settings.host}:{settings.port}, {error.strerror}",
            remedy="Stop the program that uses the port, or set WARA_PORT (and WARA_HOST) to another.",
            code="address-in-use",
        ) from error
    return listener


def _no_address(host: str) -> InputError:
    return InputError(
        "WARA_HOST is no address of this machine",
        seen=host,
        remedy="Set it to 127.0.0.1 for this machine alone, 0.0.0.0 for all of its networks, or one of its own "
        "addresses.",
        code="no-such-address",
    )


def _refuse(error: Exception) -> int:
    sys.stderr.write(f"{told.sentence(error)}\n")
    return 2


if __name__ == "__main__":
    sys.exit(main())
