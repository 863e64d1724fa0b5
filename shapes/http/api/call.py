"""One request to a route of the API, and its answer."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

import orjson

from engine.errors import PgtideError
from shapes.access.grant import Grant
from shapes.access.scopes import Resource
from shapes.http.api.body_room import FREE_BYTES, BodyRoom
from shapes.http.responder import Responder
from shapes.http.responses import Header

_LATER: Header = (b"retry-after", b"5")
# What is left of the body is nothing that would be read.
_CLOSE: Header = (b"connection", b"close")


class ApiError(PgtideError):
    """An answer of 400 or above: `{"error": message}`, with what `extra` adds to the object."""

    code = "api_error"

    def __init__(
        self,
        status: int,
        message: str,
        headers: tuple[Header, ...] = (),
        **extra: object,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.headers = headers
        self.body: dict[str, object] = {"error": message, **extra}


class NotFoundError(ApiError):
    """There is no such thing in the credential's environment.

    Where a route looks for what it is about, only those are told so who may do there what they want
    with one of `about`, if it were there; others are refused as if it was.
    """

    def __init__(self, *, retry: bool = False, about: Sequence[Resource] = ()) -> None:
        super().__init__(404, "Not found", ((b"x-should-retry", b"true" if retry else b"false"),))
        self.about = about


@dataclass(frozen=True, slots=True)
class Reply:
    """A JSON answer; without `body` an empty one."""

    body: object = None
    status: int = 200
    headers: tuple[Header, ...] = ()


@dataclass(slots=True)
class Call:
    """What was asked. `values` are the path's, decoded; `query` has the last value of each name."""

    responder: Responder
    values: Mapping[str, str]
    query: Mapping[str, str]
    grant: Grant
    max_body: int
    room: BodyRoom
    found: Any = None
    """What the route's access check came across, so that its handler need not look again."""
    _body: bytes | None = field(default=None, repr=False)
    _room_taken: int = 0

    @property
    def method(self) -> str:
        return self.responder.method

    def header(self, name: bytes) -> str | None:
        """A header of the request, by its lower-case name."""
        value = self.responder.header(name)
        return None if value is None else value.decode("latin-1")

    async def body(self) -> bytes:
        """The whole body. Raises ApiError: 413 if it is larger than the route allows, 503 if others
        have sent so much that there is no room for it."""
        if self._body is None:
            pieces: list[bytes] = []
            size = 0
            async for piece in self.pieces():
                size += len(piece)
                if size > self.max_body:
                    raise ApiError(413, "Request body too large")
                if size > FREE_BYTES:
                    self._take_room(size)
                pieces.append(piece)
            self._body = b"".join(pieces)
        return self._body

    def close(self) -> None:
        """The request has been answered: its body is not needed any longer."""
        if self._room_taken:
            self.room.give(self._room_taken)
            self._room_taken = 0

    def _take_room(self, size: int) -> None:
        if not self.room.take(size - self._room_taken):
            raise ApiError(503, "Too many large requests at a time", (_LATER, _CLOSE))
        self._room_taken = size

    async def pieces(self) -> AsyncIterator[bytes]:
        """The body as it comes in. Raises ApiError if the client goes away."""
        more = True
        while more:
            message = await self.responder.receive()
            if message["type"] == "http.disconnect":
                raise ApiError(400, "the request ended too early")
            more = message.get("more_body", False)
            if message.get("body"):
                yield message["body"]

    async def json(self) -> Any:
        """The body as JSON. Raises ApiError (400)."""
        text = await self.body()
        if not text.strip():
            raise ApiError(400, "Request body is empty")
        try:
            return orjson.loads(text)
        except orjson.JSONDecodeError as error:
            raise ApiError(400, "Invalid JSON") from error

    async def json_object(self) -> dict[str, Any]:
        """The body as a JSON object. Raises ApiError (400)."""
        value = await self.json()
        if not isinstance(value, dict):
            raise ApiError(400, "the body must be a JSON object")
        return cast("dict[str, Any]", value)
