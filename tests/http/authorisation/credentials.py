"""Every way to ask: with what, and what is to be said to it where no scope is looked at yet."""

from __future__ import annotations

import time
from collections.abc import Sequence
from functools import cache
from typing import Any, NamedTuple

import jwt
from access_tokens import AUDIENCE, encode, encoded, public_token, signed
from access_tokens import ISSUER as TRIGGER
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from guarded_server import (
    ENDED,
    ISSUER,
    KEY,
    KID,
    KID_ENDED,
    ROTATED,
    SIGNING,
    SIGNING_ENDED,
    STAGING,
    restricted_key,
)
from jwt.algorithms import RSAAlgorithm

MISSING = "Invalid or Missing API key"
UNKNOWN = "Invalid API key"
INVALID = "Public Access Token is invalid"
EXPIRED = "Public Access Token has expired"

LIFE = 36_000
"""Seconds; some are made once, and must outlast a slow run."""
EVERYTHING = ("admin", "*:all", "read:shapes")


class Credential(NamedTuple):
    """A whole authorization header (None: there is none). `message` is what it is refused with."""

    name: str
    header: str | None
    message: str


class Good(NamedTuple):
    """A credential that may do everything in the environment `default`; `public`: a token."""

    name: str
    header: str
    public: bool


@cache
def issuers_key() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(65537, 2048)


def issuers_jwk() -> dict[str, str]:
    made: dict[str, Any] = dict(RSAAlgorithm.to_jwk(issuers_key().public_key(), as_dict=True))
    return {name: made[name] for name in ("kty", "n", "e")}


def local(*scopes: str, seconds: float = LIFE, **claims: Any) -> str:
    """As the npm packages sign."""
    return public_token(KEY, scopes or None, seconds=seconds, **claims)


def own(*scopes: str, **claims: Any) -> str:
    """As pgtide signs, with its own key."""
    return public_token(SIGNING, scopes or None, header={"alg": "HS256", "kid": KID}, **claims)


def issued(*scopes: str, **claims: Any) -> str:
    payload = _payload(scopes, **{"sub": "somebody", "iss": ISSUER, "aud": "pgtide", **claims})
    return jwt.encode(payload, issuers_key(), "RS256")


def _payload(scopes: Sequence[str] = EVERYTHING, **claims: Any) -> dict[str, Any]:
    now = int(time.time())
    base: dict[str, Any] = {"sub": "default", "pub": True, "scopes": list(scopes)}
    base |= {"iat": now, "exp": now + LIFE, "iss": TRIGGER, "aud": AUDIENCE}
    return {name: value for name, value in (base | claims).items() if value is not None}


def bearers() -> list[Good]:
    """Everything with which everything may be done."""
    return [
        Good("secret key", f"Bearer {KEY}", False),
        Good("scheme in small letters", f"bearer {KEY}", False),
        Good("more space", f"  Bearer   {KEY} ", False),
        Good("rotated key before its end", f"Bearer {ROTATED}", False),
        Good("token signed by the client", f"Bearer {local(*EVERYTHING)}", True),
        Good("token signed with pgtide's key", f"Bearer {own(*EVERYTHING)}", True),
        Good("token of another issuer", f"Bearer {issued(*EVERYTHING)}", True),
        Good(
            "token signed with a rotated key", f"Bearer {public_token(ROTATED, EVERYTHING)}", True
        ),
        Good(
            "token for several audiences", f"Bearer {local(*EVERYTHING, aud=['x', AUDIENCE])}", True
        ),
        # The client's own key needs no name, so that it has one says nothing.
        Good(
            "kid that nobody knows, good signature",
            f"Bearer {public_token(KEY, EVERYTHING, header={'alg': 'HS256', 'kid': 'x'})}",
            True,
        ),
    ]


@cache
def refused() -> list[Credential]:
    """Everything that is no credential of this server, or one no more, or not yet."""
    good = local(*EVERYTHING)
    head, body, signature = good.split(".")
    other = "A" if signature[0] != "A" else "B"
    none = encoded({"alg": "none"})
    spki = issuers_key().public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    confused = _payload(sub="somebody", iss=ISSUER, aud="pgtide")
    rs = encoded({"alg": "RS256"})
    keys = {
        "garbage": "garbage",
        "key and more": f"{KEY}x",
        "part of the key": KEY[:-1],
        "key in capitals": KEY.upper(),
        "rotated key after its end": ENDED,
        "restricted key that nobody has": restricted_key("nobody"),
        "restricted key after its end": restricted_key("ended"),
        "hash of nothing": "a.b.c",
        "signing key": SIGNING,
        "two keys": f"{KEY} {KEY}",
    }
    unknown = {
        "pub is missing": local(*EVERYTHING, pub=None),
        "pub is false": local(*EVERYTHING, pub=False),
        "pub is a text": local(*EVERYTHING, pub="true"),
        "no signature": f"{head}.{body}.",
        "signature left out": f"{head}.{body}",
        "four parts": f"{good}.{signature}",
        "padded": f"{good}=",
        "critical header": public_token(KEY, EVERYTHING, header={"alg": "HS256", "crit": ["b64"]}),
        "alg none without signature": f"{none}.{body}.",
    }
    invalid = {
        "forged signature": f"{head}.{body}.{other}{signature[1:]}",
        "signature of another body": f"{head}.{local('admin').split('.')[1]}.{signature}",
        "alg none": f"{none}.{body}.{signature}",
        "alg None, signed": public_token(KEY, EVERYTHING, header={"alg": "None"}),
        "alg missing": public_token(KEY, EVERYTHING, header={"typ": "JWT"}),
        "alg RS256 with a key for HS256": f"{rs}.{body}.{signature}",
        "HS256 with the public key of RS256": signed(confused, spki),
        "alg HS512": jwt.encode(_payload(), KEY.encode() * 3, "HS512"),
        "signed with nothing": signed(_payload(), b""),
        "signed with another environment's key": public_token(STAGING, EVERYTHING),
        "sub of another environment": local(*EVERYTHING, environment="staging"),
        "sub of no environment": local(*EVERYTHING, environment="nowhere"),
        "sub is missing": signed(_payload(sub=None), KEY.encode()),
        "signed after the key's end": public_token(ENDED, EVERYTHING),
        "signed with pgtide's key after its end": public_token(
            SIGNING_ENDED, EVERYTHING, header={"alg": "HS256", "kid": KID_ENDED}
        ),
        "kid of another key": public_token(
            SIGNING, EVERYTHING, header={"alg": "HS256", "kid": KID_ENDED}
        ),
        "kid that nobody knows": public_token(
            SIGNING, EVERYTHING, header={"alg": "HS256", "kid": "x"}
        ),
        "issuer of nobody": local(*EVERYTHING, iss="https://evil.example"),
        "another issuer's name": local(*EVERYTHING, iss=ISSUER),
        "issuer is missing": local(*EVERYTHING, iss=None),
        "issuer is a list": local(*EVERYTHING, iss=[TRIGGER]),
        "issued by one, named another": jwt.encode(_payload(), issuers_key(), "RS256"),
        "audience of somebody else": local(*EVERYTHING, aud="https://elsewhere.example"),
        "another issuer, our audience": issued(*EVERYTHING, aud=AUDIENCE),
        "audience is missing": local(*EVERYTHING, aud=None),
        "no expiry": local(*EVERYTHING, exp=None),
        "expiry is a text": local(*EVERYTHING, exp=str(int(time.time()) + LIFE)),
        "expiry is true": local(*EVERYTHING, exp=True),
        "not yet valid": local(*EVERYTHING, nbf=time.time() + LIFE),
        "issued in the future": local(*EVERYTHING, iat=time.time() + LIFE),
        "scopes are one text": signed({**_payload(), "scopes": "admin"}, KEY.encode()),
        "scopes are numbers": signed({**_payload(), "scopes": [1]}, KEY.encode()),
        "one-time is a text": local(*EVERYTHING, otu="no"),
        "realtime is a text": local(*EVERYTHING, realtime="x"),
        "columns are a text": local(*EVERYTHING, realtime={"skipColumns": "payload"}),
        "tables are a text": local(*EVERYTHING, shapes="secrets"),
        "more about tables than is known": local(
            *EVERYTHING, shapes=[{"table": "secrets", "rows": "mine"}]
        ),
        "very long": local(*EVERYTHING, more="x" * 9000),
    }
    expired = {
        "expired": local(*EVERYTHING, seconds=-1),
        "expired long ago": local(*EVERYTHING, exp=1),
        "expired, pgtide's": own(*EVERYTHING, exp=time.time() - 1),
    }
    return [
        Credential("none", None, MISSING),
        Credential("empty", "", MISSING),
        Credential("empty bearer", "Bearer", MISSING),
        Credential("bearer of spaces", "Bearer   ", MISSING),
        Credential("key without a scheme", KEY, MISSING),
        Credential("basic", f"Basic {encode(f'{KEY}:'.encode())}", MISSING),
        Credential("another scheme", f"Token {KEY}", MISSING),
        *_all(keys, UNKNOWN),
        *_all(unknown, UNKNOWN),
        *_all(invalid, INVALID),
        *_all(expired, EXPIRED),
    ]


def _all(credentials: dict[str, str], message: str) -> list[Credential]:
    return [Credential(name, f"Bearer {text}", message) for name, text in credentials.items()]
