"""Serves the API's routes: the one place where credentials are checked."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from urllib.parse import parse_qsl

from shapes.access.authority import Authority
from shapes.access.grant import AuthenticationError, ForbiddenError, Grant
from shapes.http.answer import send_preflight
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


class Api:
    """The ASGI application of all routes."""

    def __init__(self, routes: Sequence[Route], authority: Authority) -> None:
        self.routes = tuple(routes)
        self._table = RouteTable(routes)
        self._authority = authority

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        responder = Responder(scope, receive, send, METHODS, EXPOSED)
        if responder.method == "OPTIONS":
            await send_preflight(responder, PREFLIGHT_SECONDS)
            return
        try:
            reply = await self._reply(responder)
        except ApiError as error:
            reply = Reply(error.body, error.status, error.headers)
        except AuthenticationError as error:
            reply = Reply({"error": str(error)}, 401)
        except ForbiddenError:
            reply = Reply(_FORBIDDEN, 403)
        except Exception as error:
            await answer_error(responder, error)
            return
        if reply is not None:
            await _send(responder, reply)

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
        query = dict(parse_qsl(responder.scope["query_string"].decode("latin-1"), True))
        grant = self._authenticate(responder, route.access)
        call = Call(responder, values, query, grant, route.max_body)
        await _authorize(call, route.access)
        return await route.handler(call)

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


async def _send(responder: Responder, reply: Reply) -> None:
    headers: list[Header] = [NO_STORE, *reply.headers]
    if reply.body is None:
        await responder.send_body(reply.status, headers, b"")
    else:
        await responder.send_json(reply.status, headers, reply.body)
