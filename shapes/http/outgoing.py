"""Bytes on their way out of a transport."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import sys
import termios


def write(transport: asyncio.WriteTransport, descriptor: int, data: bytes | memoryview) -> None:
    """Send, unless the transport is closing. `descriptor` is its socket's.

    At once, if nothing waits to be sent: an event loop would write after everybody else has been given
    something to send, too.
    """
    if transport.is_closing():
        return
    if not transport.get_write_buffer_size():
        try:
            sent = os.write(descriptor, data)
        except OSError:
            # The transport learns by itself whether the client is slow or gone.
            sent = 0
        if sent == len(data):
            return
        if sent:
            data = memoryview(data)[sent:]
    transport.write(data)


def untaken(transport: asyncio.WriteTransport) -> int:
    """Bytes that the client has not taken: ours, and those that the system holds for it.

    The system takes more of ours only when it has got rid of a large part, which for a slow client may
    last for minutes.
    """
    held = bytearray(4)
    with contextlib.suppress(OSError):
        fcntl.ioctl(transport.get_extra_info("socket").fileno(), termios.TIOCOUTQ, held)
    return transport.get_write_buffer_size() + int.from_bytes(held, sys.byteorder)
