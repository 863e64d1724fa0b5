"""Tokens by which a worker shows that a wake is its own: sealed with the environment's key."""

from __future__ import annotations

import base64
import binascii
import secrets
import time
from collections.abc import Callable
from typing import Final, NamedTuple

import orjson

from shapes.access.authority import Authority
from shapes.streams.subscriptions.refusals import Code, SubscriptionError

LIFE_SECONDS: Final = 86_400
"""Much longer than any lease, so that a worker may go on for as long as it keeps its lease."""

_MOST_CHARACTERS: Final = 4_096


class Fence(NamedTuple):
    """What a token is for: one wake of one subscription."""

    environment: str
    subscription: str
    generation: int


class FencingTokens:
    """Gives out tokens and reads them; every node accepts those of every other."""

    def __init__(self, authority: Authority, now: Callable[[], float] = time.time) -> None:
        self._authority = authority
        self._now = now

    def make(self, fence: Fence) -> str:
        """Raises SettingsError if the environment has no key (any more)."""
        claims = {
            "env": fence.environment,
            "sub": fence.subscription,
            "epoch": fence.generation,
            "exp": int(self._now()) + LIFE_SECONDS,
            "jti": secrets.token_hex(8),
        }
        text = base64.urlsafe_b64encode(orjson.dumps(claims)).rstrip(b"=").decode()
        return f"{text}.{self._authority.seal(fence.environment, _sealed_text(text))}"

    def read(self, authorization: str | None, subscription: str) -> Fence:
        """What the token in an `authorization` header is for. Raises SubscriptionError."""
        scheme, _, token = (authorization or "").strip().partition(" ")
        text, _, seal = token.strip().partition(".")
        claims = (
            _claims(text) if scheme.lower() == "bearer" and len(token) < _MOST_CHARACTERS else None
        )
        if claims is None or claims[0].subscription != subscription:
            raise _INVALID
        fence, expires_at = claims
        if not self._authority.is_sealed(fence.environment, _sealed_text(text), seal):
            raise _INVALID
        if expires_at <= self._now():
            raise SubscriptionError(
                Code.TOKEN_EXPIRED, "the token has expired: wait to be woken, or claim, again"
            )
        return fence


_INVALID = SubscriptionError(
    Code.TOKEN_INVALID, "carry the token that came with the wake: authorization: Bearer <token>"
)


def _claims(text: str) -> tuple[Fence, int] | None:
    """What a token says, before anything of it may be believed."""
    try:
        said = orjson.loads(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)))
    except (binascii.Error, ValueError):
        return None
    match said:
        case {"env": str(env), "sub": str(sub), "epoch": int(epoch), "exp": int(expires_at)}:
            return Fence(env, sub, epoch), expires_at
        case _:
            return None


def _sealed_text(text: str) -> str:
    return orjson.dumps(["subscription", text]).decode()
