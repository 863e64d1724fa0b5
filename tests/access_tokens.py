"""Tokens as the npm packages sign them, made without any of our own code.

token = public_token(KEY, ["read:runs:run_1"], seconds=60)
httpx.get(url, headers=bearer(token))
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import time
from collections.abc import Mapping, Sequence
from typing import Any

SECRET_KEY = "tr_dev_0123456789abcdefghij"
"""Of the environment `default`, where a test has no reason for another one. As long as upstream's."""

ISSUER = "https://id.trigger.dev"
AUDIENCE = "https://api.trigger.dev"


def public_token(
    key: str,
    scopes: Sequence[str] | None = (),
    *,
    environment: str = "default",
    seconds: float = 36_000,
    header: Mapping[str, Any] | None = None,
    **claims: Any,
) -> str:
    """What `auth.createPublicToken` gives, signed with `key`. `claims` replace its own; one that is
    None is left out. So is `scopes`."""
    now = time.time()
    payload = {
        "sub": environment,
        "pub": True,
        "scopes": None if scopes is None else list(scopes),
        "iat": int(now),
        "exp": now + seconds,
        "iss": ISSUER,
        "aud": AUDIENCE,
        **claims,
    }
    payload = {name: value for name, value in payload.items() if value is not None}
    return signed(payload, key.encode(), header)


def signed(payload: object, key: bytes, header: Mapping[str, Any] | None = None) -> str:
    """Any payload, with HMAC and SHA-256 whatever the header says."""
    text = f"{encoded(header or {'alg': 'HS256'})}.{encoded(payload)}"
    return f"{text}.{encode(hmac.new(key, text.encode(), hashlib.sha256).digest())}"


def encoded(value: object) -> str:
    return encode(json.dumps(value, separators=(",", ":")).encode())


def encode(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def claims_of(token: str) -> dict[str, Any]:
    """What a token says, unverified."""
    body = token.split(".")[1]
    return json.loads(base64.urlsafe_b64decode(body + "=" * (-len(body) % 4)))


def bearer(credential: str) -> dict[str, str]:
    return {"authorization": f"Bearer {credential}"}
