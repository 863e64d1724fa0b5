"""A server that is open to nobody without a credential, and its keys."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jwt
from access_tokens import SECRET_KEY, claims_of, public_token
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from jwt.algorithms import OKPAlgorithm
from serving import Serving
from tables import Tables

SECRET = "the shape secret"
STAGING_KEY = "tr_stg_0123456789abcdefghij"
RESTRICTED_KEY = "tr_prod_sk_0123456789abcdefghijklmn"
RESTRICTED_SCOPES = ("read:runs", "trigger:tasks:resize", "read:shapes:public.allowed")
ISSUER = "https://login.example"


class KeyFiles:
    """The settings file, and beside it the key set of an issuer of tokens."""

    def __init__(self, folder: Path) -> None:
        self.settings = folder / "pgtide.toml"
        self._key_set = folder / "jwks.json"
        self._private = Ed25519PrivateKey.generate()
        digest = hashlib.sha256(RESTRICTED_KEY.encode()).hexdigest()
        self.settings.write_text(
            f"""
            [environments.default]
            restricted_keys = [{{ sha256 = "{digest}", scopes = {list(RESTRICTED_SCOPES)} }}]
            [environments.staging]
            secret_keys = ["{STAGING_KEY}"]
            [[signing_keys.issuers]]
            issuer = "{ISSUER}"
            audience = "pgtide"
            jwks_file = "{self._key_set.name}"
            """
        )
        self._write(self._private)

    def token(self, *scopes: str, **claims: Any) -> str:
        """A token of the issuer, for a user of its own."""
        payload = claims_of(public_token(SECRET_KEY, scopes, environment="user-1"))
        payload |= {"iss": ISSUER, "aud": "pgtide", **claims}
        return jwt.encode(payload, self._private, "EdDSA", headers={"kid": "key"})

    @contextmanager
    def another_key(self) -> Generator[None]:
        """The issuer's key is another one, under the same name."""
        self._write(Ed25519PrivateKey.generate())
        try:
            yield
        finally:
            self._write(self._private)

    def _write(self, private: Ed25519PrivateKey) -> None:
        key: dict[str, Any] = OKPAlgorithm.to_jwk(private.public_key(), as_dict=True)
        fresh = self._key_set.with_suffix(".new")
        fresh.write_text(json.dumps({"keys": [key | {"kid": "key"}]}))
        fresh.replace(self._key_set)


@dataclass
class Guarded:
    """The server, which has pgtide's own tables; `tables` are in its database."""

    serving: Serving
    tables: Tables
    files: KeyFiles

    @property
    def url(self) -> str:
        return self.serving.url

    def log(self) -> str:
        """What it has said so far."""
        return self.serving.log
