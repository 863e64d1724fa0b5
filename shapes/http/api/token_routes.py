"""Giving out tokens for browsers."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from typing import Any, cast

from shapes.access.authority import Authority
from shapes.access.claims import ClaimError, skip_columns, table_grants
from shapes.access.durations import parse_duration
from shapes.access.grant import Grant
from shapes.access.scopes import Scope
from shapes.access.tokens import LONGEST_TOKEN
from shapes.http.api.call import ApiError, Call, Reply
from shapes.http.api.routes import Route, SecretKey, post

LONGEST_SECONDS = 30 * 86400.0
_USUAL = "15m"
_USUAL_OF_OLD = "1h"
_READ_SHAPES = "read:shapes"


def token_routes(authority: Authority) -> list[Route]:
    """The routes on which back ends get tokens, or what they need to sign their own."""
    routes = _TokenRoutes(authority)
    return [
        post("/api/v1/auth/jwt/claims", SecretKey(), routes.claims),
        post("/api/v1/auth/public-tokens", SecretKey(restricted=True), routes.public_token),
        post("/api/v1/auth/jwt", SecretKey(restricted=True), routes.token),
    ]


class _TokenRoutes:
    def __init__(self, authority: Authority) -> None:
        self._authority = authority

    async def claims(self, call: Call) -> Reply:
        """What a client needs that signs with its secret key."""
        return Reply(self._authority.claims_to_sign(call.grant.environment))

    async def public_token(self, call: Call) -> Reply:
        body = await call.json_object()
        shapes = body.get("shapes")
        scopes = _scopes(body.get("scopes", [] if shapes else None))
        if not scopes and not shapes:
            raise ApiError(400, "scopes: give at least one scope")
        one_time = body.get("oneTimeUse", False)
        if not isinstance(one_time, bool):
            raise ApiError(400, "oneTimeUse: give true or false")
        seconds = _seconds(body.get("expirationTime", _USUAL))
        return self._token(call.grant, scopes, seconds, body, one_time=one_time)

    async def token(self, call: Call) -> Reply:
        """The same as older clients ask for it: nothing is required."""
        body = await call.json_object() if (await call.body()).strip() else {}
        claims: object = body.get("claims") or {}
        if not isinstance(claims, dict):
            raise ApiError(400, "claims: give an object")
        members = cast("dict[str, Any]", claims)
        seconds = _seconds(body.get("expirationTime", _USUAL_OF_OLD))
        scopes = _scopes(members.get("scopes") or [])
        return self._token(call.grant, scopes, seconds, members)

    def _token(
        self,
        grant: Grant,
        scopes: Sequence[str],
        seconds: float,
        members: Mapping[str, Any],
        *,
        one_time: bool = False,
    ) -> Reply:
        realtime, shapes = members.get("realtime"), members.get("shapes")
        try:
            skip_columns(realtime)
            tables = table_grants(shapes)
        except ClaimError as error:
            raise ApiError(400, str(error)) from error
        wanted = [*scopes, *(f"{_READ_SHAPES}:{one.schema}.{one.name}" for one in tables)]
        _check_within(grant, wanted)
        if grant.expires_at is not None:
            # What a key has given out must not outlast it.
            seconds = min(seconds, grant.expires_at - time.time())
        token = self._authority.mint(
            grant.environment,
            scopes,
            seconds,
            realtime,
            one_time=one_time,
            shapes=shapes or (),
        )
        if len(token) > LONGEST_TOKEN:
            raise ApiError(400, f"the token would be longer than {LONGEST_TOKEN} characters")
        return Reply({"token": token})


def _check_within(grant: Grant, wanted: Sequence[str]) -> None:
    """Raises ApiError (403) if a restricted key asks for more than it has."""
    if grant.scopes is None:
        return
    denied = [
        text for text in wanted if not any(one.covers(Scope.parse(text)) for one in grant.scopes)
    ]
    if denied:
        raise ApiError(
            403,
            f"The key does not have the scopes {', '.join(denied)}",
            code="scopes_exceed_key_access",
            deniedScopes=denied,
        )


def _scopes(value: object) -> list[str]:
    if not isinstance(value, list):
        raise ApiError(400, "scopes: give a list of texts")
    texts = cast("list[object]", value)
    if not all(isinstance(text, str) and text.strip() for text in texts):
        raise ApiError(400, "scopes: give a list of texts that are not empty")
    return cast("list[str]", texts)


def _seconds(value: object) -> float:
    """How long from now: a duration, or the time itself in seconds since 1970."""
    if isinstance(value, str):
        try:
            seconds = float(parse_duration(value))
        except ValueError as error:
            raise ApiError(400, f"expirationTime: {error}") from error
    elif isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value):
        seconds = value - time.time()
    else:
        raise ApiError(400, "expirationTime: give a duration like 15m, or seconds since 1970")
    if seconds <= 0:
        raise ApiError(400, "expirationTime: it is in the past")
    if seconds > LONGEST_SECONDS:
        raise ApiError(400, "expirationTime: a token lasts 30 days at most")
    return seconds
