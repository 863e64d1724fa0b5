"""Refusals of requests about streams: their bodies are plain text."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from engine.errors import PgtideError
from shapes.http.api.call import ApiError, Call, Reply
from shapes.http.api.refusals import refusing
from shapes.http.responses import NO_STORE, Header

Handler = Callable[[Call], Awaitable["Reply | None"]]

LONGEST_PATH = 1024
"""Bytes of a stream's path."""

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


def segment_of(identity: str) -> str:
    """An id as one segment of a stream's path: what would be a slash in it is none there."""
    if "%" in identity or "/" in identity:
        return identity.replace("%", "%25").replace("/", "%2F")
    return identity


def identity_of(segment: str) -> str:
    """The id that has this segment."""
    return segment.replace("%2F", "/").replace("%25", "%") if "%" in segment else segment


def check_path(path: str) -> None:
    """Raises StreamTextError if no stream may be called so."""
    if len(path.encode()) > LONGEST_PATH or any(
        char < " " or "\x7f" <= char <= "\x9f" for char in path
    ):
        raise StreamTextError(
            400,
            f"A stream's name may not be longer than {LONGEST_PATH} bytes, together with its run's, "
            "nor contain control characters",
        )
