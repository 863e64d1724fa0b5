"""From exceptions to answers: one table."""

from __future__ import annotations

import logging

from engine.errors import DatabaseSetupError
from engine.log.reader import LogMissingError
from engine.publication_errors import PublicationError
from shapes.database import DatabaseUnavailableError
from shapes.definition import InvalidRequestError
from shapes.http.responses import NO_STORE, Header, Send, send_json
from shapes.library import OutOfBoundsError
from shapes.snapshot import SnapshotError

log = logging.getLogger("http")

_SURROGATE: Header = (b"surrogate-control", b"no-store")
_KNOWN: Header = (b"electric-internal-known-error", b"true")


async def answer_error(send: Send, headers: list[Header], error: Exception) -> None:
    """Answer what went wrong; what nobody foresaw is logged and answered without details."""
    headers = [*headers, NO_STORE, _SURROGATE]
    match error:
        case InvalidRequestError():
            body = {"message": "Invalid request", "errors": error.errors}
            await send_json(send, 400, headers, body)
        case OutOfBoundsError():
            body = {"message": "Invalid request", "errors": {"offset": [str(error)]}}
            await send_json(send, 400, headers, body)
        case DatabaseUnavailableError():
            body = {
                "message": "Cannot connect to the database to verify the shape. "
                "Please try again later."
            }
            await send_json(send, 503, [*headers, _retry_after(1)], body)
        case PublicationError():
            headers += [_retry_after(10), _KNOWN]
            await send_json(send, 503, headers, {"message": error.message})
        case SnapshotError() | DatabaseSetupError():
            headers += [_retry_after(10), _KNOWN]
            await send_json(send, 503, headers, {"message": str(error)})
        case LogMissingError():
            message = "Timeout waiting for replication client to be ready"
            await send_json(send, 503, [*headers, _retry_after(5)], {"message": message})
        case _:
            log.error("request failed", exc_info=error)
            await send_json(send, 500, headers, {"error": "Internal server error"})


def _retry_after(seconds: int) -> Header:
    return (b"retry-after", b"%d" % seconds)
