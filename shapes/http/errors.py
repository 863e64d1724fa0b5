"""From exceptions to answers: one table."""

from __future__ import annotations

import logging
from collections.abc import Mapping

from engine.errors import DatabaseSetupError, PgtideError
from engine.log.reader import LogMissingError
from engine.postgres.publication_errors import PublicationError
from shapes.access.grant import AuthenticationError, ForbiddenError
from shapes.database import DatabaseUnavailableError
from shapes.definition import InvalidRequestError
from shapes.http.admission import ConcurrencyError
from shapes.http.body import BodyError
from shapes.http.responder import Responder
from shapes.http.responses import NO_CACHE, NO_STORE, PRIVATE, Header
from shapes.kept import DiskError
from shapes.library import OutOfBoundsError
from shapes.readiness import NotReadyError
from shapes.snapshots.snapshot import SnapshotError

log = logging.getLogger("http")

_SURROGATE: Header = (b"surrogate-control", b"no-store")
_KNOWN: Header = (b"electric-internal-known-error", b"true")
_NO_CATALOG = "Cannot connect to the database to verify the shape. Please try again later."
_NO_LOG = "Timeout waiting for replication client to be ready"
_NO_DISK = "Shapes cannot be kept on disk right now; the log of pgtide says why"


class CatalogUnavailableError(PgtideError):
    """The database that would say what a request means cannot be reached."""

    code = "catalog_unavailable"


async def answer_error(responder: Responder, error: Exception) -> None:
    """Answer what went wrong; what nobody foresaw is logged and answered without details.

    An answer that has begun can only be broken off: the error is raised again.
    """
    if responder.started:
        raise error
    match error:
        case AuthenticationError():
            await responder.send_json(401, [PRIVATE], {"message": str(error)})
        case ForbiddenError():
            body = {"message": str(error), "code": error.code}
            await responder.send_json(403, [PRIVATE], body)
        case InvalidRequestError():
            await _refuse(responder, error.errors)
        case OutOfBoundsError():
            await _refuse(responder, {"offset": [str(error)]})
        case BodyError():
            await responder.send_json(error.status, [PRIVATE], error.answer)
        case ConcurrencyError():
            headers = [*_uncached(responder), (b"retry-after", b"%d" % error.retry_after), _KNOWN]
            await responder.send_json(503, headers, {"code": error.code, "message": str(error)})
        case CatalogUnavailableError():
            await _unavailable(responder, _NO_CATALOG, 1)
        case DatabaseUnavailableError():
            headers = [*_uncached(responder), (b"retry-after", b"10")]
            body = {"code": error.code, "error": "Database is unreachable"}
            await responder.send_json(503, headers, body)
        case PublicationError():
            await _unavailable(responder, error.message, 10, _KNOWN)
        case SnapshotError() | DatabaseSetupError():
            await _unavailable(responder, str(error), 10, _KNOWN)
        case NotReadyError():
            await _unavailable(responder, str(error), 5)
        case LogMissingError():
            await _unavailable(responder, _NO_LOG, 5)
        case DiskError() | OSError():
            log.error("a request cannot be served: %s", error)
            await _unavailable(responder, _NO_DISK, 10)
        case _:
            log.error("request failed", exc_info=error)
            await responder.send_json(500, [PRIVATE], {"error": "Internal server error"})


async def answer_refusal(responder: Responder, status: int, message: str) -> None:
    """An answer of 400 or above that says what is wrong; no cache keeps it."""
    await responder.send_json(status, _uncached(responder), {"message": message})


async def _refuse(responder: Responder, errors: Mapping[str, object]) -> None:
    body = {"message": "Invalid request", "errors": errors}
    await responder.send_json(400, _uncached(responder), body)


async def _unavailable(
    responder: Responder, message: str, retry_after: int, *extra: Header
) -> None:
    headers = [*_uncached(responder), (b"retry-after", b"%d" % retry_after), *extra]
    await responder.send_json(503, headers, {"message": message})


def _uncached(responder: Responder) -> list[Header]:
    return [NO_STORE, _SURROGATE] if responder.cacheable else [NO_CACHE]
