"""One line per request, for those who log at level debug."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING
from urllib.parse import unquote_plus

from engine.redaction import MASK

if TYPE_CHECKING:
    from shapes.http.exchange import Exchange
    from shapes.http.responses import Scope

SECRETS = frozenset(
    (
        *("secret", "api_secret", "token", "access_token", "api_key", "apikey"),
        *("password", "authorization", "bearer", "jwt", "key", "seal"),
    )
)
_SEALED = re.compile(r"(/callback/)[^/]+")
"""A path whose last segment is what opens it."""


def redacted(query: bytes) -> str:
    """A query string without the values that nobody may see, however their names are spelled."""
    return "&".join(_redacted(pair) for pair in query.decode("latin-1").split("&"))


def _redacted(pair: str) -> str:
    name, equals, _ = pair.partition("=")
    secret = equals and unquote_plus(name).strip().lower() in SECRETS
    return f"{name}={MASK}" if secret else pair


def shown_path(scope: Scope) -> str:
    """A path without what opens it, as it was sent."""
    return _SEALED.sub(rf"\1{MASK}", scope["raw_path"].decode("latin-1"))


def line_of(exchange: Exchange, client: tuple[str, int] | None, seconds: float) -> str:
    """What a client asked and how it was answered."""
    scope = exchange.scope
    query: bytes = scope["query_string"]
    path = shown_path(scope)
    path += "?" + redacted(query) if query else ""
    return (
        f"{scope['method']} {path}  status={exchange.status} bytes={exchange.sent} "
        f"ms={seconds * 1000:.1f} client={client[0] if client else '-'}"
    )
