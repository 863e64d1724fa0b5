"""What all answers about streams have in common."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from itertools import count
from typing import Final

from engine.errors import DatabaseSetupError
from shapes.access.grant import AuthenticationError, ForbiddenError
from shapes.database import DatabaseUnavailableError
from shapes.http.admission import ConcurrencyError
from shapes.http.answer import TOKEN
from shapes.http.api.api import Manners
from shapes.http.api.call import ApiError, Reply
from shapes.http.api.complaints import complaints
from shapes.http.responder import Responder
from shapes.http.responses import NO_STORE, REQUEST_ID, SERVER, Header, Receive, Scope, Send
from shapes.http.streams.fields import StreamRequestError
from shapes.readiness import NotReadyError
from shapes.streams.refusals import BelowHorizonError, Refusal, StreamRefusedError

log = logging.getLogger("http")

METHODS: Final = b"GET, POST, PUT, DELETE, HEAD, OPTIONS"
PREFLIGHT_SECONDS: Final = 86400
ALLOWED: Final = (
    b"content-type, authorization, If-None-Match, Stream-Seq, Stream-TTL, Stream-Expires-At, "
    b"Stream-Closed, Producer-Id, Producer-Epoch, Producer-Seq, Stream-Forked-From, "
    b"Stream-Fork-Offset, Stream-Fork-Sub-Offset"
)
_ALLOWED: Final = frozenset(ALLOWED.lower().split(b", "))
EXPOSED: Final = (
    b"Stream-Next-Offset, Stream-Cursor, Stream-Up-To-Date, Stream-Closed, Stream-TTL, "
    b"Stream-Expires-At, Stream-SSE-Data-Encoding, Producer-Epoch, Producer-Seq, "
    b"Producer-Expected-Seq, Producer-Received-Seq, ETag, Content-Type, Content-Encoding, Vary, "
    b"Location, Retry-After, X-Request-Id"
)
RESERVED: Final = "/v1/stream/__ds"
"""What is below it is not text, also when it went wrong."""

_CODES: Final[Mapping[int, str]] = {
    400: "INVALID_REQUEST",
    401: "TOKEN_INVALID",
    403: "FORBIDDEN",
    404: "NOT_FOUND",
    405: "METHOD_NOT_ALLOWED",
    413: "TOO_LARGE",
    503: "UNAVAILABLE",
}
_COMMON: Final[tuple[Header, ...]] = (
    SERVER,
    (b"access-control-allow-origin", b"*"),
    (b"access-control-expose-headers", EXPOSED),
    (b"x-content-type-options", b"nosniff"),
    (b"cross-origin-resource-policy", b"cross-origin"),
)
_PROCESS: Final = os.urandom(6).hex().encode()
_NUMBERS: Final = count(1)
_TEXT: Final[Header] = (b"content-type", b"text/plain")
_REFUSALS: Final[Mapping[Refusal, int]] = {
    Refusal.DIFFERS: 409,
    Refusal.GONE: 409,
    Refusal.SOURCE_MISSING: 404,
    Refusal.SOURCE_GONE: 409,
    Refusal.BAD_FORK_OFFSET: 400,
    Refusal.BAD_SUB_OFFSET: 400,
    Refusal.OTHER_TYPE: 409,
    Refusal.NOT_JSON: 400,
    Refusal.TOO_LARGE: 413,
}


class StreamResponder(Responder):
    """A request about a stream."""

    __slots__ = ()

    def __init__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.scope = scope
        self.receive = receive
        self.send = send
        self.method = scope["method"]
        self.cacheable = self.method in ("GET", "HEAD")
        self.started = False
        self.grant = None
        request_id = None
        for name, value in scope["headers"]:
            if name == b"x-request-id" and REQUEST_ID.fullmatch(value):
                request_id = value
        if request_id is None:
            request_id = b"%b%012x" % (_PROCESS, next(_NUMBERS))
        self._common = [*_COMMON, (b"x-request-id", request_id)]

    async def start(self, status: int, headers: list[Header]) -> None:
        """As they are: whoever makes them knows whether caches may keep the answer."""
        self.started = True
        await self.send(
            {
                "type": "http.response.start",
                "status": status,
                "headers": [*self._common, *headers],
            }
        )

    async def refuse(self, status: int, text: bytes, *headers: Header) -> None:
        """An answer of 400 or above; no cache keeps it."""
        await self.send_body(status, [_TEXT, NO_STORE, *headers], text)


class StreamManners(Manners):
    """Errors are text, and everybody may see the answers who has got them."""

    def responder(self, scope: Scope, receive: Receive, send: Send) -> Responder:
        return StreamResponder(scope, receive, send)

    async def preflight(self, responder: Responder) -> None:
        wanted = responder.header(b"access-control-request-headers") or b""
        names = [name.strip() for name in wanted.lower().split(b",")]
        more = [name for name in names if TOKEN.fullmatch(name) and name not in _ALLOWED]
        headers: list[Header] = [
            (b"access-control-allow-methods", METHODS),
            (b"access-control-allow-headers", b", ".join([ALLOWED, *more])),
            (b"access-control-max-age", b"%d" % PREFLIGHT_SECONDS),
            (b"vary", b"access-control-request-headers"),
        ]
        await responder.send_empty(204, headers)

    async def reply(self, responder: Responder, reply: Reply) -> None:
        raise AssertionError("routes of streams answer by themselves")

    async def refuse(self, responder: Responder, error: Exception) -> None:
        if responder.started or not isinstance(responder, StreamResponder):
            raise error
        status, headers = status_of(error, repeats=_repeats(responder))
        text = str(error)
        if status == 500:
            log.error("request failed", exc_info=error)
            text = "Internal server error"
        elif isinstance(error, DatabaseSetupError):
            complaints.warn(_with_its_cause(error))
        if responder.scope["path"].startswith(RESERVED):
            code = _CODES.get(status, "REQUEST_FAILED")
            body = {"error": {"code": code, "message": text}}
            await responder.send_json(status, [NO_STORE, *headers], body)
        else:
            await responder.refuse(status, text.encode(), *headers)


def status_of(error: Exception, *, repeats: bool) -> tuple[int, tuple[Header, ...]]:
    """Which status tells of an error, and further headers; 500 for what nobody foresaw. `repeats`: for
    clients that would repeat a request that was answered with 403."""
    match error:
        case StreamRequestError():
            return error.status, _later(error.retry_after)
        case StreamRefusedError():
            return _REFUSALS[error.reason], ()
        case BelowHorizonError():
            return 410, ()
        case ApiError():
            return error.status, error.headers
        case AuthenticationError():
            return 401, ()
        case ForbiddenError():
            return (401 if repeats else 403), ()
        case ConcurrencyError():
            return 503, _later(error.retry_after)
        case DatabaseUnavailableError() | DatabaseSetupError():
            return 503, _later(5)
        case NotReadyError():
            return 503, _later(2)
        case _:
            return 500, ()


def _with_its_cause(error: Exception) -> str:
    """What an operator should know, and clients need not: what Postgres said."""
    said = str(error.__cause__ or "").partition("\n")[0]
    return f"{error} ({said})" if said else str(error)


def _later(seconds: int | None) -> tuple[Header, ...]:
    return () if seconds is None else ((b"retry-after", b"%d" % seconds),)


def _repeats(responder: Responder) -> bool:
    """Producers of the npm client take every 403 for an epoch that is too low, and try the next one,
    without end and without a pause."""
    return responder.header(b"producer-id") is not None
