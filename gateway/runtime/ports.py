"""Whether an address can be listened on, asked before a server starts, because servers say it in a stack trace."""

import os
import socket

from gateway.errors import ConfigurationError


def check_port(host: str, port: int, *, option: str = "--port") -> None:
    """Raise ``ConfigurationError`` naming ``option`` when nobody can listen on the port."""
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0][0]
    except OSError as error:
        raise ConfigurationError(
            f"{host} is not an address of this machine; choose another with --host."
        ) from error
    try:
        socket.create_server((host, port), family=family).close()
    except OSError as error:
        reason = os.strerror(error.errno or 0)
        raise ConfigurationError(
            f"Port {port} of {host} cannot be used: {reason}; choose another with {option}."
        ) from error
