"""Refusals of requests about streams: their bodies are plain text."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from engine.errors import PgtideError
from shapes.http.api.call import ApiError, Call, Reply
from shapes.http.api.refusals import refusing
from shapes.http.responses import NO_STORE, Header
from shapes.streams.path import flaw_of

Handler = Callable[[Call], Awaitable["Reply | None"]]

_CLOSE: Header = (b"connection", b"close")


class StreamTextError(PgtideError):
    """An answer of 400 or above with the message as its text."""

    code = "refused_stream"

    def __init__(self, status: int, message: str, *headers: Header) -> None:
        super().__init__(message)
        self.status = status
        self.headers = headers


def in_text(handler: Handler) -> Handler:
    """The same handler, whose refusals are texts."""

    async def answer(call: Call) -> Reply | None:
        try:
            with refusing():
                return await handler(call)
        except ApiError as error:
            status, message, headers = error.status, str(error), error.headers
        except StreamTextError as error:
            status, message, headers = error.status, str(error), error.headers
        # What is left of the request, which may go on for ever, is nothing that would be read.
        sent = [NO_STORE, *headers, *([_CLOSE] if call.method == "POST" else [])]
        await call.responder.send_text(status, sent, message.encode())
        return None

    return answer


def check_path(path: str) -> None:
    """Raises StreamTextError if no stream can have this path."""
    flaw = flaw_of(path)
    if flaw is not None:
        raise StreamTextError(400, f"The stream's name, with its run's or session's, {flaw}")
