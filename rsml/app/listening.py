"""Take an address, serve an application there, and end without losing what is in work."""

from __future__ import annotations

import ipaddress
import signal
import socket

import uvicorn
from starlette.types import ASGIApp

from rsml.utils.errors import UserError

_CONNECTIONS = 1024


def bind(host: str, port: int) -> tuple[socket.socket, bool]:
    """Takes an address before anything heavy is loaded.

    Args:
        host: A name or number of this machine.
        port: 0 takes any that is free.

    Returns:
        The socket, which does not listen yet, and whether only this machine can reach it.
    """
    if not 0 <= port < 2**16:
        raise UserError(f"--port {port}: expected 0 to 65535")
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        # The protocol is named, or asyncio would leave out TCP_NODELAY and each answer would wait 40 ms.
        taken = socket.socket(family, kind, protocol)
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        taken.bind(address)
    except OSError as fault:
        raise UserError(
            f"{host}:{port}: cannot be listened at ({fault.strerror}); choose another --host or --port"
        ) from None
    return taken, ipaddress.ip_address(address[0]).is_loopback


def serve(app: ASGIApp, taken: socket.socket, drain: float) -> None:
    """Serves until SIGTERM or Ctrl-C: then nothing new is accepted, and what is in work is answered.

    Args:
        app: See `create_app`.
        taken: See `bind`.
        drain: Seconds for what is in work.
    """
    # uvicorn raises the signal again once it has ended, which must not end us before all is closed.
    previous = signal.signal(signal.SIGTERM, lambda *_: None)
    try:
        config = uvicorn.Config(
            app,
            log_level="warning",
            access_log=False,
            server_header=False,
            limit_concurrency=_CONNECTIONS,
            timeout_graceful_shutdown=round(drain),
            ws="none",
        )
        uvicorn.Server(config).run(sockets=[taken])
    finally:
        signal.signal(signal.SIGTERM, previous)
