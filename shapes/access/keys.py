"""All keys that count, ready to judge credentials with."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from engine.configuration.access_keys import AUDIENCE, DEFAULT_ENVIRONMENT, ISSUER, AccessKeys
from shapes.access.grant import Grant
from shapes.access.scopes import Scope

_LABEL = b"pgtide: tokens signed by the server, 1"
_INSECURE = "insecure: everybody is served, so this protects nobody"


@dataclass(frozen=True, slots=True, eq=False)
class TokenKey:
    """A key that verifies tokens. `environment` is that of all of them; None if `sub` names it.

    With `own_subjects` the `sub` of tokens is the issuer's own affair. `expires_at` is in seconds
    since 1970. `identity` is the same when the key is read again.
    """

    algorithm: str
    key: Any = field(repr=False)
    kid: str | None
    issuer: str
    audience: str
    environment: str | None
    own_subjects: bool
    expires_at: float | None
    identity: bytes

    def environment_of(self, subject: object) -> str | None:
        """The environment that a token is for; None if it must not be for this one."""
        if self.own_subjects:
            return self.environment
        if not isinstance(subject, str) or self.environment not in (None, subject):
            return None
        return subject


@dataclass(frozen=True, slots=True)
class _Known:
    """A key that is itself the credential, by its digest."""

    digest: bytes = field(repr=False)
    grant: Grant


class KeyRing:
    """Judges keys, finds keys for tokens. `insecure`: there is always one to sign with."""

    def __init__(self, keys: AccessKeys, *, insecure: bool = False) -> None:
        self._secret = [
            _Known(
                _digest(key.text),
                Grant(key.environment, None, expires_at=key.expires_at, key=_digest(key.text)),
            )
            for key in keys.secret_keys
        ]
        self._restricted = [
            _Known(
                key.digest,
                Grant(
                    key.environment,
                    tuple(map(Scope.parse, key.scopes)),
                    expires_at=key.expires_at,
                    key=key.digest,
                ),
            )
            for key in keys.restricted_keys
        ]
        self._verifying: dict[str, list[TokenKey]] = {}
        self._signing: dict[str | None, list[TokenKey]] = {}
        named = [one.environment for one in (*keys.secret_keys, *keys.restricted_keys)]
        named += [issuer.environment for issuer in keys.issuers]
        self.environments = frozenset((DEFAULT_ENVIRONMENT, *named))
        for signing in keys.signing_keys:
            self._add_own(signing.text, signing.kid, None, signing.expires_at)
        for key in keys.secret_keys:
            self._add_secret(key.text, key.environment, key.expires_at)
        for issuer in keys.issuers:
            for jwk in issuer.keys:
                identity = hashlib.sha256(jwk.material + issuer.environment.encode()).digest()
                self._verifying.setdefault(issuer.issuer, []).append(
                    TokenKey(
                        *(jwk.algorithm, jwk.key, jwk.kid, issuer.issuer, issuer.audience),
                        *(issuer.environment, True, None, identity),
                    )
                )
        if insecure and not self._signing:
            self._add_secret(_INSECURE, DEFAULT_ENVIRONMENT, None)

    def _add_secret(self, text: str, environment: str, expires_at: float | None) -> None:
        """A secret key: the SDK signs with it, and pgtide with what is derived from it."""
        key = text.encode()
        self._verifying.setdefault(ISSUER, []).append(
            TokenKey(
                *("HS256", key, None, ISSUER, AUDIENCE, environment, False, expires_at),
                _digest(text),
            )
        )
        derived = hmac.digest(key, _LABEL, "sha256")
        kid = "pgtide-" + hashlib.sha256(derived).hexdigest()[:12]
        self._add(derived, kid, environment, expires_at, _digest(text))

    def _add_own(
        self, text: str, kid: str, environment: str | None, expires_at: float | None
    ) -> None:
        self._add(text.encode(), kid, environment, expires_at, _digest(text))

    def _add(
        self,
        key: bytes,
        kid: str,
        environment: str | None,
        expires_at: float | None,
        identity: bytes,
    ) -> None:
        made = TokenKey(
            *("HS256", key, kid, ISSUER, AUDIENCE, environment, False, expires_at), identity
        )
        self._verifying.setdefault(ISSUER, []).append(made)
        self._signing.setdefault(environment, []).append(made)

    @property
    def identities(self) -> frozenset[bytes]:
        """Of all keys: a grant whose key is not among them counts no more."""
        known = {one.grant.key for one in (*self._secret, *self._restricted)}
        known |= {key.identity for keys in self._verifying.values() for key in keys}
        return frozenset(one for one in known if one is not None)

    def judge(self, text: str, now: float) -> Grant | None:
        """What a key allows; None if there is no such key (any more)."""
        digest = _digest(text)
        found: Grant | None = None
        for known in (*self._secret, *self._restricted):
            # All of them, so that the time taken tells nothing.
            if hmac.compare_digest(known.digest, digest):
                found = found or (known.grant if _counts(known.grant.expires_at, now) else None)
        return found

    def verifiers(self, issuer: object, kid: object, now: float) -> Iterator[TokenKey]:
        """The keys that a token of this issuer may have been signed with."""
        keys = self._verifying.get(issuer, ()) if isinstance(issuer, str) else ()
        for key in keys:
            if _counts(key.expires_at, now) and (kid is None or key.kid in (None, kid)):
                yield key

    def signer(self, environment: str, now: float) -> TokenKey | None:
        """The key to sign an environment's tokens with."""
        return next(self.signers(environment, now), None)

    def signers(self, environment: str, now: float) -> Iterator[TokenKey]:
        """That key and those that may sign once it is gone, or have signed before."""
        keys: Iterable[TokenKey] = (
            *self._signing.get(None, ()),
            *self._signing.get(environment, ()),
        )
        return (key for key in keys if _counts(key.expires_at, now))


def _digest(text: str) -> bytes:
    return hashlib.sha256(text.encode()).digest()


def _counts(expires_at: float | None, now: float) -> bool:
    return expires_at is None or now < expires_at
