"""Serves the API's routes: the one place where credentials are checked."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from urllib.parse import parse_qsl

from shapes.access.authority import Authority
from shapes.access.grant import AuthenticationError, ForbiddenError, Grant
from shapes.http.answer import send_preflight
from shapes.http.api.body_room import BodyRoom
from shapes.http.api.call import ApiError, Call, NotFoundError, Reply
from shapes.http.api.routes import Access, Needs, Route, RouteTable, SecretKey, Unchecked
from shapes.http.errors import answer_error
from shapes.http.exchange import STREAM
from shapes.http.responder import Responder
from shapes.http.responses import NO_STORE, Header, Receive, Scope, Send
from shapes.wire import EXPOSED_HEADERS

log = logging.getLogger("http")

PREFIXES = ("/api/", "/realtime/")
METHODS = b"GET,HEAD,PUT,PATCH,POST,DELETE"
PREFLIGHT_SECONDS = 300
EXPOSED = EXPOSED_HEADERS + (
    b",x-stream-version,x-session-settled,x-trigger-jwt,x-trigger-jwt-claims,x-should-retry,"
    b"x-ratelimit-limit,x-ratelimit-remaining,x-ratelimit-reset,x-request-id"
)
_NOBODY = Grant(environment="", scopes=())
_FORBIDDEN = {
    "error": "Unauthorized",
    "code": "unauthorized",
    "param": "access_token",
    "type": "authorization",
}


class Manners:
    """What all answers of an API have in common: here, what Trigger.dev's clients expect."""

    def responder(self, scope: Scope, receive: Receive, send: Send) -> Responder:
        return Responder(scope, receive, send, METHODS, EXPOSED)

    async def preflight(self, responder: Responder) -> None:
        """Answer what browsers ask beforehand."""
        await send_preflight(responder, PREFLIGHT_SECONDS)

    async def refuse(self, responder: Responder, error: Exception) -> None:
        """Answer that something went wrong. Raises the error again if an answer has begun."""
        match error:
            case ApiError():
                reply = Reply(error.body, error.status, error.headers)
            case AuthenticationError():
                reply = Reply({"error": str(error)}, 401)
            case ForbiddenError():
                reply = Reply(_FORBIDDEN, 403)
            case _:
                await answer_error(responder, error)
                return
        await self.reply(responder, reply)

    async def reply(self, responder: Responder, reply: Reply) -> None:
        headers: list[Header] = [NO_STORE, *reply.headers]
        if reply.body is None:
            await responder.send_body(reply.status, headers, b"")
        else:
            await responder.send_json(reply.status, headers, reply.body)


class Api:
    """The ASGI application of some routes."""

    def __init__(
        self, routes: Sequence[Route], authority: Authority, manners: Manners | None = None
    ) -> None:
        self.routes = tuple(routes)
        self._table = RouteTable(routes)
        self._authority = authority
        self._manners = manners or Manners()
        self._room = BodyRoom()

    def forget(self) -> None:
        """Let go of what is remembered of paths that came."""
        self._table.forget()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        responder = self._manners.responder(scope, receive, send)
        if responder.method == "OPTIONS":
            await self._manners.preflight(responder)
            return
        try:
            reply = await self._reply(responder)
        except Exception as error:
            await self._manners.refuse(responder, error)
            return
        if reply is not None:
            await self._manners.reply(responder, reply)

    async def _reply(self, responder: Responder) -> Reply | None:
        regular = responder.scope["extensions"][STREAM].regular
        if regular is not None:
            # Their first request has come through what follows.
            responder.grant = regular.grant
            return await regular.audience.go_on(responder, regular)
        values, routes = self._table.find(responder.scope["raw_path"])
        if not routes:
            raise ApiError(404, "Not found")
        for route in routes:
            if responder.method in route.methods:
                break
        else:
            allowed = sorted({method for route in routes for method in route.methods})
            header = (b"allow", ", ".join(allowed).encode())
            raise ApiError(405, "Method not allowed", (header,))
        text = responder.scope["query_string"]
        query = dict(parse_qsl(text.decode("latin-1"), True)) if text else {}
        grant = self._authenticate(responder, route.access)
        call = Call(responder, values, query, grant, route.max_body, self._room)
        await _authorize(call, route.access)
        try:
            return await route.handler(call)
        finally:
            call.close()

    def _authenticate(self, responder: Responder, access: Access) -> Grant:
        if isinstance(access, Unchecked):
            return _NOBODY
        value = responder.header(b"authorization")
        text = None if value is None else value.decode("latin-1")
        grant = self._authority.authenticate(text, public=not isinstance(access, SecretKey))
        responder.grant = grant
        return grant


async def _authorize(call: Call, access: Access) -> None:
    """Raises ForbiddenError, and what the route's look-up raises."""
    if isinstance(access, SecretKey) and not access.restricted and not call.grant.unlimited:
        raise ForbiddenError("the key is restricted, and this is for keys that are not")
    if not isinstance(access, Needs):
        return
    try:
        resources = await access.find(call)
    except NotFoundError as error:
        if call.grant.allows_any(access.action, error.about):
            raise
        raise ForbiddenError("the credential would not allow this") from error
    allows = call.grant.allows_every if access.every else call.grant.allows_any
    if not allows(access.action, resources):
        raise ForbiddenError("the credential does not allow this")
    if access.also is not None:
        others = await access.also.find(call)
        if others is not None and not call.grant.allows_any(access.also.action, others):
            raise ForbiddenError("the credential does not allow this")
