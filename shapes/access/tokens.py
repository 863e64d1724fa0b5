"""Public access tokens: JSON Web Signatures (RFC 7515) in compact form. Pure.

PyJWT does the cryptography. The text is taken apart here, strictly: of a token that may be used only
once there must be one spelling.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any, cast

import orjson

LONGEST_TOKEN = 8192
"""Characters."""

_PARTS = re.compile(r"[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+")


@dataclass(frozen=True, slots=True)
class Token:
    """A token as it was sent. Nothing of it may be believed before `verified` says so."""

    header: Mapping[str, Any]
    payload: Mapping[str, Any]
    signed: bytes = field(repr=False)
    """Header and payload, as they are signed."""
    signature: bytes = field(repr=False)

    @classmethod
    def parse(cls, text: str) -> Token | None:
        """Take a token apart; None if this is none, or one that asks for what is not understood."""
        if len(text) > LONGEST_TOKEN or _PARTS.fullmatch(text) is None:
            return None
        signed, _, signature = text.rpartition(".")
        head, _, body = signed.partition(".")
        try:
            header: object = orjson.loads(_decoded(head))
            payload: object = orjson.loads(_decoded(body))
            last = _decoded(signature)
        except (binascii.Error, ValueError):
            return None
        if not isinstance(header, dict) or not isinstance(payload, dict) or "crit" in header:
            return None
        fields = cast("Mapping[str, Any]", header), cast("Mapping[str, Any]", payload)
        return cls(*fields, signed.encode(), last)

    def verified(self, algorithm: str, key: Any) -> bool:
        """Whether it was signed with this key. The algorithm is the key's, not what a token says."""
        if self.header.get("alg") != algorithm:
            return False
        return bool(_algorithms()[algorithm].verify(self.signed, key, self.signature))

    @property
    def digest(self) -> bytes:
        """The same for every token that says the same, however its signature is written."""
        return hashlib.sha256(self.signed).digest()


def sign(payload: Mapping[str, object], key: bytes, kid: str) -> str:
    """A token, signed with HMAC and SHA-256."""
    header = {"alg": "HS256", "kid": kid}
    signed = f"{_encoded(orjson.dumps(header))}.{_encoded(orjson.dumps(payload))}"
    return f"{signed}.{_encoded(_algorithms()['HS256'].sign(signed.encode(), key))}"


@cache
def _algorithms() -> dict[str, Any]:
    # Here, because it takes memory (10 MB) and not everybody has tokens.
    from jwt.algorithms import get_default_algorithms

    return dict(get_default_algorithms())


def seal_of(key: bytes, environment: str, text: str) -> str:
    """A signature that cannot be one of a token, whose signed text begins otherwise."""
    label = f"pgtide: seal, 1\0{environment}\0{text}"
    return _encoded(hmac.digest(key, label.encode(), "sha256"))


def _encoded(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def _decoded(text: str) -> bytes:
    """Raises ValueError for text that no encoder would write."""
    data = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
    if _encoded(data) != text:
        raise ValueError("not canonical")
    return data
