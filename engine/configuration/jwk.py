"""JSON Web Keys (RFC 7517) that tokens are verified with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

ALGORITHMS = frozenset(
    "HS256 HS384 HS512 RS256 RS384 RS512 PS256 PS384 PS512 ES256 ES384 ES512 EdDSA".split()  # noqa: SIM905
)
SHORTEST_RSA = 2048
"""Bits."""
SHORTEST_SECRET = 32
"""Bytes of a key of the type `oct`."""


@dataclass(frozen=True, slots=True)
class Jwk:
    """`key` is what PyJWT's algorithm of that name takes. `material` tells keys apart."""

    kid: str | None
    algorithm: str
    key: Any = field(repr=False)
    material: bytes = field(repr=False)


def read_jwks(keys: object) -> tuple[Jwk, ...]:
    """The keys of a set that are for verifying signatures; others, and unknown types, are left out.

    Raises ValueError if none remains, and for a key that must not be there.
    """
    if not isinstance(keys, list) or not keys:
        raise ValueError("give a list of JSON Web Keys, at least one")
    found = [_read(key) for key in cast("Sequence[object]", keys)]
    usable = tuple(key for key in found if key is not None)
    if not usable:
        raise ValueError("there is no key that could verify a signature")
    return usable


def _read(value: object) -> Jwk | None:
    # Here, because it takes memory (10 MB) and most need none of it.
    from jwt import PyJWK
    from jwt.exceptions import PyJWTError

    if not isinstance(value, dict):
        raise ValueError("a JSON Web Key is an object")
    members = cast("Mapping[str, Any]", value)
    kid = members.get("kid")
    if kid is not None and not isinstance(kid, str):
        raise ValueError("a key's kid has to be a text")
    if members.get("use", "sig") != "sig" or "verify" not in members.get("key_ops", ("verify",)):
        return None
    if members.get("kty") != "oct" and "d" in members:
        raise ValueError(f"the key {kid} is a private one: give its public part alone")
    if members.get("alg", "HS256") not in ALGORITHMS:
        return None
    try:
        read = PyJWK(dict(members))
    except (PyJWTError, ValueError, TypeError, KeyError):
        return None
    if read.algorithm_name not in ALGORITHMS:
        return None
    size = getattr(read.key, "key_size", None)
    if members["kty"] == "RSA" and isinstance(size, int) and size < SHORTEST_RSA:
        raise ValueError(f"the key {kid} has {size} bits, fewer than {SHORTEST_RSA}")
    if isinstance(read.key, bytes) and len(read.key) < SHORTEST_SECRET:
        raise ValueError(f"the key {kid} has fewer than {SHORTEST_SECRET} bytes")
    material = "\0".join(f"{name}={members[name]}" for name in sorted(members)).encode()
    return Jwk(kid, read.algorithm_name, read.key, material)
