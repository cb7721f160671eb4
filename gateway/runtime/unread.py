"""Connections whose client takes nothing: the kernel closes them, because the server has no time limit for writing.

An answer that nobody reads ends for the gateway after its own limit, but the server would keep the connection, its
buffers and its descriptor for as long as the client likes, and would wait for it when it stops.
"""

import asyncio
import contextlib
import os
import socket
import stat
import sys
from collections.abc import Iterator
from pathlib import Path

MILLISECONDS_PER_SECOND = 1_000
DESCRIPTORS = Path("/proc/self/fd")
LOOK_EVERY_S = 0.05
LOOKS_MAX = 100


async def close_unread(after_s: int) -> None:
    """Have connections closed on which bytes wait and none was taken for ``after_s`` seconds; only Linux can.

    What is set for a listening socket holds for all that it accepts (``TCP_USER_TIMEOUT``, tcp(7)). The server begins to
    listen after the application has said that it is there, so this looks for that, for five seconds at most.
    """
    if sys.platform != "linux":
        return
    for _ in range(LOOKS_MAX):
        listening = list(_listening())
        for server in listening:
            with server:
                server.setsockopt(
                    socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, after_s * MILLISECONDS_PER_SECOND
                )
        if listening:
            return
        await asyncio.sleep(LOOK_EVERY_S)


def _listening() -> Iterator[socket.socket]:
    """Find the TCP sockets on which this process listens; the caller closes what it gets, which is a second handle."""
    for descriptor in [int(path.name) for path in DESCRIPTORS.iterdir()]:
        with contextlib.suppress(OSError):
            if not stat.S_ISSOCK(os.fstat(descriptor).st_mode):
                continue
            found = socket.socket(fileno=os.dup(descriptor))
            if found.family in {socket.AF_INET, socket.AF_INET6} and found.getsockopt(
                socket.SOL_SOCKET, socket.SO_ACCEPTCONN
            ):
                yield found
            else:
                found.close()
