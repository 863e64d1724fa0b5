"""Subscriptions to streams: `/v1/stream/__ds/…`. Errors are `{"error": {"code", "message"}}`."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any, Final

import orjson

from shapes.access.authority import Authority
from shapes.http.api.call import ApiError, Call
from shapes.http.api.public_address import base_address
from shapes.http.api.refusals import refusing
from shapes.http.api.routes import Access, Handler, Route, SecretKey, Unchecked
from shapes.http.responses import NO_STORE, Header
from shapes.streams.subscriptions.configuration import (
    PULL_WAKE,
    WEBHOOK,
    Configuration,
    stream_path,
    stream_paths,
)
from shapes.streams.subscriptions.courier import Courier
from shapes.streams.subscriptions.refusals import Code, SubscriptionError, invalid
from shapes.streams.subscriptions.subscription import ROOT, Key, Link, Subscription
from shapes.streams.subscriptions.subscriptions import Subscriptions

MOST_NAME_CHARACTERS: Final = 256
_METHODS = frozenset(("GET", "HEAD", "PUT", "POST", "PATCH", "DELETE"))
_KEY_SET: Header = (b"content-type", b"application/jwk-set+json")
_KEYS_LAST: Header = (b"cache-control", b"public, max-age=300")
_KEYS_SECONDS = 30.0
"""Everybody may ask for the keys, and it takes some work to make them."""

_STATUS: Final[Mapping[Code, int]] = {
    Code.INVALID_REQUEST: 400,
    Code.WEBHOOK_URL_REJECTED: 400,
    Code.TOKEN_INVALID: 401,
    Code.TOKEN_EXPIRED: 401,
    Code.NOT_FOUND: 404,
}
_CONFLICT = 409


def subscription_routes(
    subscriptions: Subscriptions,
    authority: Authority,
    courier: Courier,
    public_url: str | None,
) -> list[Route]:
    """All routes below `/v1/stream/__ds`, which no stream's path may begin with."""
    routes = _SubscriptionRoutes(subscriptions, authority, courier, public_url)
    one, key, own = f"{ROOT}/subscriptions/{{id}}", SecretKey(), Unchecked()
    return [
        _route("PUT", one, key, routes.put),
        _route("GET", one, key, routes.get),
        _route("DELETE", one, key, routes.delete),
        _route("POST", f"{one}/streams", key, routes.add),
        _route("DELETE", f"{one}/streams/{{path}}", key, routes.remove),
        _route("DELETE", f"{one}/streams/{{path*}}", key, routes.remove),
        _route("POST", f"{one}/claim", key, routes.claim),
        # By the token that came with the wake.
        _route("POST", f"{one}/callback", own, routes.call_back),
        _route("POST", f"{one}/ack", own, routes.acknowledge),
        _route("POST", f"{one}/release", own, routes.release),
        _route("GET", f"{ROOT}/jwks.json", own, routes.keys),
        Route(_METHODS, ROOT, own, _answering(_nothing)),
        Route(_METHODS, f"{ROOT}/{{rest*}}", own, _answering(_nothing)),
    ]


def _route(method: str, pattern: str, access: Access, handler: Handler) -> Route:
    methods = ("GET", "HEAD") if method == "GET" else (method,)
    return Route(frozenset(methods), pattern, access, _answering(handler))


def _answering(handler: Handler) -> Handler:
    """The handler, answering also what it refuses."""

    async def answer(call: Call) -> None:
        try:
            with refusing():
                await handler(call)
        except SubscriptionError as error:
            told = {"code": error.why.value, "message": str(error), **error.more}
            status = _STATUS.get(error.why, _CONFLICT)
            await call.responder.send_json(status, [NO_STORE], {"error": told})
        except ApiError as error:
            told = {"code": Code.INVALID_REQUEST.value, "message": str(error)}
            if error.status >= 500:
                told["code"] = "UNAVAILABLE"
            headers = [NO_STORE, *error.headers]
            await call.responder.send_json(error.status, headers, {"error": told})

    return answer


async def _nothing(call: Call) -> None:
    raise SubscriptionError(Code.NOT_FOUND, "there is nothing here")


class _SubscriptionRoutes:
    def __init__(
        self,
        subscriptions: Subscriptions,
        authority: Authority,
        courier: Courier,
        public_url: str | None,
    ) -> None:
        self._subscriptions = subscriptions
        self._authority = authority
        self._courier = courier
        self._public_url = public_url
        self._keys = b""
        self._keys_until = 0.0
        self._keys_edition = -1

    async def put(self, call: Call) -> None:
        key = _key(call)
        asked = Configuration.parse(await _object(call))
        if asked.webhook_url is not None:
            await self._courier.check(asked.webhook_url)
        base = base_address(call, self._public_url)
        one, links, made = await self._subscriptions.create(key, asked, base)
        await self._show(call, one, links, 201 if made else 200)

    async def get(self, call: Call) -> None:
        one, links = await self._subscriptions.find(_key(call))
        await self._show(call, one, links, 200)

    async def delete(self, call: Call) -> None:
        await self._subscriptions.delete(_key(call))
        await call.responder.send_empty(204, [NO_STORE])

    async def add(self, call: Call) -> None:
        paths = stream_paths((await _object(call)).get("streams"))
        await self._subscriptions.add(_key(call), paths)
        await call.responder.send_empty(204, [NO_STORE])

    async def remove(self, call: Call) -> None:
        path = stream_path(call.values["path"], "the path")
        await self._subscriptions.remove(_key(call), path)
        await call.responder.send_empty(204, [NO_STORE])

    async def claim(self, call: Call) -> None:
        worker = (await _object(call)).get("worker")
        if (
            not isinstance(worker, str)
            or not 0 < len(worker) <= MOST_NAME_CHARACTERS
            or "\0" in worker
        ):
            raise invalid(f"worker must be a name of at most {MOST_NAME_CHARACTERS} characters")
        claimed = await self._subscriptions.claim(_key(call), worker)
        told = {
            "wake_id": claimed.wake_id,
            "generation": claimed.generation,
            "token": claimed.token,
            "streams": [link.shown_to_worker() for link in claimed.links],
            "lease_ttl_ms": claimed.lease_ms,
        }
        await call.responder.send_json(200, [NO_STORE], told)

    async def call_back(self, call: Call) -> None:
        await self._acknowledge(call, WEBHOOK)

    async def acknowledge(self, call: Call) -> None:
        await self._acknowledge(call, PULL_WAKE)

    async def _acknowledge(self, call: Call, kind: str) -> None:
        # Before anything is asked of Postgres, or read.
        fence = self._subscriptions.tokens.read(call.header(b"authorization"), _name(call))
        more = await self._subscriptions.acknowledge(fence, await _object(call), kind)
        await call.responder.send_json(200, [NO_STORE], {"ok": True, "next_wake": more})

    async def release(self, call: Call) -> None:
        fence = self._subscriptions.tokens.read(call.header(b"authorization"), _name(call))
        await self._subscriptions.release(fence, await _object(call))
        await call.responder.send_empty(204, [NO_STORE])

    async def keys(self, call: Call) -> None:
        now = time.monotonic()
        if now > self._keys_until or self._keys_edition != self._authority.edition:
            signatures = await self._subscriptions.signatures()
            self._keys = orjson.dumps(signatures.public_keys())
            self._keys_until, self._keys_edition = now + _KEYS_SECONDS, self._authority.edition
        await call.responder.send_body(200, [_KEY_SET, _KEYS_LAST], self._keys)

    async def _show(self, call: Call, one: Subscription, links: list[Link], status: int) -> None:
        base = base_address(call, self._public_url)
        key_id = None
        if one.type == WEBHOOK:
            key_id = (await self._subscriptions.signatures()).key_id(one.key.environment)
        await call.responder.send_json(status, [NO_STORE], one.shown(links, base, key_id))


def _name(call: Call) -> str:
    """Raises SubscriptionError."""
    name = call.values["id"]
    if len(name) > MOST_NAME_CHARACTERS:
        raise invalid(f"a subscription's name has at most {MOST_NAME_CHARACTERS} characters")
    return name


def _key(call: Call) -> Key:
    return Key(call.grant.environment, _name(call))


async def _object(call: Call) -> Mapping[str, Any]:
    """The body; one that is empty is an object without members. Raises ApiError."""
    return await call.json_object() if (await call.body()).strip() else {}
