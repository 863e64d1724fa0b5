"""Wait tokens: made by back ends, completed by whoever was asked."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

import orjson

from shapes.access.authority import Authority
from shapes.access.scopes import Resource, Scope
from shapes.http.api.call import ApiError, Call, NotFoundError, Reply
from shapes.http.api.public_address import base_address
from shapes.http.api.refusals import refusing
from shapes.http.api.routes import Needs, Route, SecretKey, Unchecked, get, post
from shapes.http.api.trigger_routes import request_key
from shapes.runs.wait_tokens import NewWaitToken, WaitToken, WaitTokens

MOST_BODY = 3 << 20
TOKEN_SECONDS = 86400.0
"""Life of the tokens by which a browser may complete a wait token."""

_PATH = "/api/v1/waitpoints/tokens"
_DONE = {"success": True}


def wait_token_routes(
    tokens: WaitTokens, authority: Authority, public_url: str | None
) -> list[Route]:
    """The routes of wait tokens."""
    routes = _WaitTokenRoutes(tokens, authority, public_url)
    return [
        post(_PATH, SecretKey(), routes.create),
        get(_PATH, SecretKey(), routes.page),
        get(f"{_PATH}/{{id}}", SecretKey(), routes.retrieve),
        post(
            f"{_PATH}/{{id}}/complete", Needs("write", _find), routes.complete, max_body=MOST_BODY
        ),
        post(
            f"{_PATH}/{{id}}/callback/{{seal}}", Unchecked(), routes.call_back, max_body=MOST_BODY
        ),
    ]


async def _find(call: Call) -> Sequence[Resource]:
    return [Resource("waitpoints", call.values["id"])]


class _WaitTokenRoutes:
    def __init__(self, tokens: WaitTokens, authority: Authority, public_url: str | None) -> None:
        self._tokens = tokens
        self._authority = authority
        self._public_url = public_url

    async def create(self, call: Call) -> Reply:
        environment = call.grant.environment
        body = await call.json_object() if (await call.body()).strip() else {}
        with refusing():
            new = NewWaitToken.parse(body, datetime.now(UTC))
            made, cached = await self._tokens.create(environment, new, request_key(call))
        scopes = [Scope("write", "waitpoints", made)]
        headers = self._authority.token_headers(environment, scopes, TOKEN_SECONDS)
        url = self._address(call, environment, made)
        return Reply({"id": made, "isCached": cached, "url": url}, headers=headers)

    async def page(self, call: Call) -> Reply:
        with refusing():
            page = await self._tokens.page(call.grant.environment, call.query)
        turns = {"next": page.next, "previous": page.previous}
        return Reply(
            {
                "data": [self._shown(call, token) for token in page.tokens],
                "pagination": {name: turn for name, turn in turns.items() if turn is not None},
            }
        )

    async def retrieve(self, call: Call) -> Reply:
        with refusing():
            token = await self._tokens.find(call.grant.environment, call.values["id"])
        if token is None:
            raise NotFoundError
        return Reply({**self._shown(call, token), **token.result()})

    async def complete(self, call: Call) -> Reply:
        """With `data` as its output. Whoever is late is told the same, and changes nothing."""
        body = await call.json_object() if (await call.body()).strip() else {}
        try:
            output = orjson.dumps(body["data"]).decode() if "data" in body else None
        except orjson.JSONEncodeError as error:
            raise ApiError(400, "data is nested too deeply") from error
        with refusing():
            there = await self._tokens.complete(call.grant.environment, call.values["id"], output)
        if not there:
            raise NotFoundError
        return Reply(_DONE)

    async def call_back(self, call: Call) -> Reply:
        """The body is the output: JSON, or else text."""
        token_id = call.values["id"]
        environment, _, seal = call.values["seal"].rpartition(".")
        # Before anything is asked of Postgres, and one answer for all: it tells nobody what there is.
        if not self._authority.is_sealed(environment, _sealed_text(token_id), seal):
            raise NotFoundError
        output, kind = _output(await call.body())
        with refusing():
            there = await self._tokens.complete(environment, token_id, output, kind)
        if not there:
            raise NotFoundError
        return Reply(_DONE)

    def _shown(self, call: Call, token: WaitToken) -> dict[str, object]:
        return token.shown(self._address(call, call.grant.environment, token.id))

    def _address(self, call: Call, environment: str, token_id: str) -> str:
        """Where anybody who has it may complete the token."""
        seal = self._authority.seal(environment, _sealed_text(token_id))
        base = base_address(call, self._public_url)
        return f"{base}{_PATH}/{token_id}/callback/{environment}.{seal}"


def _sealed_text(token_id: str) -> str:
    return orjson.dumps(["wait token", token_id]).decode()


def _output(body: bytes) -> tuple[str | None, str]:
    """The output and its type. Raises ApiError (400)."""
    if not body.strip():
        return None, "application/json"
    try:
        text = body.decode()
    except UnicodeDecodeError as error:
        raise ApiError(400, "the body must be JSON or text in UTF-8") from error
    if "\0" in text:
        raise ApiError(400, "the body must not contain NUL characters")
    try:
        orjson.loads(body)
    except orjson.JSONDecodeError:
        return text, "text/plain"
    return text, "application/json"
