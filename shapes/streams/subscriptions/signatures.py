"""What webhooks are signed with, so that receivers know them for ours: Ed25519 (RFC 8032).

The private key is made of two halves: a random text in the database, the same for all nodes, and the
environment's secret key. Neither a look at the table nor a guess at the secret key is enough.
"""

from __future__ import annotations

import base64
import hashlib
import time
from typing import TYPE_CHECKING, Any

import orjson

from shapes.access.authority import Authority

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey


class Signatures:
    """Signs for all environments, with the keys that there are now."""

    def __init__(self, authority: Authority, seed: str) -> None:
        """`seed`: the database's half."""
        self._authority = authority
        self._text = orjson.dumps(["webhook signature", seed]).decode()

    def key_id(self, environment: str) -> str:
        """Raises SettingsError if the environment has no key (any more)."""
        return _public(_private(self._authority.seal(environment, self._text)))["kid"]

    def sign(self, environment: str, body: bytes) -> str:
        """A `Webhook-Signature` header. Raises SettingsError."""
        key = _private(self._authority.seal(environment, self._text))
        now = int(time.time())
        signature = _encoded(key.sign(b"%d.%s" % (now, body)))
        return f"t={now},kid={_public(key)['kid']},ed25519={signature}"

    def public_keys(self) -> dict[str, list[dict[str, str]]]:
        """A JSON Web Key Set (RFC 7517): those that sign, and those that did and still count."""
        seals = self._authority.seals(self._text)
        return {"keys": [_public(_private(seal)) for seal in dict.fromkeys(seals)]}


def _private(seal: str) -> Ed25519PrivateKey:
    # Here, because it takes memory (10 MB) and not everybody has webhooks.
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    return Ed25519PrivateKey.from_private_bytes(base64.urlsafe_b64decode(seal + "="))


def _public(key: Ed25519PrivateKey) -> dict[str, str]:
    x = _encoded(key.public_key().public_bytes_raw())
    # RFC 7638: exactly these members, in this order.
    thumbprint: dict[str, Any] = {"crv": "Ed25519", "kty": "OKP", "x": x}
    digest = hashlib.sha256(orjson.dumps(thumbprint)).digest()
    return {**thumbprint, "kid": f"ds_{_encoded(digest)}", "use": "sig", "alg": "EdDSA"}


def _encoded(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()
