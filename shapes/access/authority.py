"""Judges credentials and gives out tokens."""

from __future__ import annotations

import hashlib
import hmac
import logging
import os
import secrets
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

import orjson

from engine.configuration.access_keys import AUDIENCE, DEFAULT_ENVIRONMENT, ISSUER, read_access_keys
from engine.configuration.settings import Settings
from engine.errors import SettingsError
from shapes.access.claims import INVALID, is_public, read_claims
from shapes.access.grant import AuthenticationError, Grant
from shapes.access.keys import KeyRing, TokenKey
from shapes.access.scopes import Scope
from shapes.access.tokens import LONGEST_TOKEN, Token, seal_of, sign

log = logging.getLogger("access")

MISSING = "Invalid or Missing API key"
UNKNOWN = "Invalid API key"
ENDED = "the credential has ended meanwhile: ask again with a new one"
MOST_REMEMBERED = 4096

Stamp = tuple[int, int, int] | None
"""What tells that a file is another one: time of change, size, inode."""


class UnknownCredentialError(AuthenticationError):
    """It is none of ours; who serves everybody does not mind."""


class Authority:
    """What credentials allow, by the keys that there are now.

    Where everybody is served (`insecure`), whoever comes without a credential of ours may do
    everything in the environment `default`; those that are ours mean the same as ever.
    """

    def __init__(self, settings: Settings, now: Callable[[], float] = time.time) -> None:
        """Raises SettingsError. `now` gives seconds since 1970."""
        self._settings = settings
        self._now = now
        self._remembered: OrderedDict[bytes, Grant] = OrderedDict()
        self._files: dict[Path, Stamp] = {}
        self._trouble = ""
        self.edition = 0
        """Becomes another one whenever the keys may mean something else."""
        self._ring = self._read()

    # -- judging -----------------------------------------------------------------------------------

    def authenticate(self, authorization: str | None, *, public: bool) -> Grant:
        """What the `authorization` header allows. `public`: tokens for browsers are accepted, too.

        Raises AuthenticationError.
        """
        try:
            return self.judge(_bearer(authorization), public=public)
        except UnknownCredentialError:
            if not self._settings.insecure:
                raise
            return Grant(DEFAULT_ENVIRONMENT)

    def judge(self, credential: str, *, public: bool) -> Grant:
        """What a key or a token of ours allows. Raises UnknownCredentialError for what is none, and
        AuthenticationError for what is no good (any more), or not accepted here."""
        now = self._now()
        grant = self._token(credential, now)
        if grant is not None and not public:
            # Where only keys are accepted, a token is an unknown one; not even where all are served
            # may it do more than it says.
            raise AuthenticationError(UNKNOWN)
        grant = grant or self._ring.judge(credential, now)
        if grant is None:
            raise UnknownCredentialError(UNKNOWN)
        return grant

    def counts(self, grant: Grant) -> bool:
        """Whether a grant that was given before still stands."""
        return self._stands(grant, self._now())

    def check_end(self, grant: Grant) -> None:
        """For answers that had to be waited for. Raises AuthenticationError if what allowed them has
        ended meanwhile."""
        if not self.counts(grant):
            raise AuthenticationError(ENDED)

    def _stands(self, grant: Grant, now: float) -> bool:
        if grant.expires_at is not None and grant.expires_at <= now:
            return False
        return grant.key is None or grant.key in self._identities

    def _token(self, text: str, now: float) -> Grant | None:
        """The grant of a token; None if it is not a token at all. Raises AuthenticationError."""
        if len(text) > LONGEST_TOKEN:
            raise UnknownCredentialError(INVALID)
        name = hashlib.sha256(text.encode()).digest()
        grant = self._remembered.pop(name, None)
        if grant is not None and self._stands(grant, now):
            self._remembered[name] = grant
            return grant
        token = Token.parse(text)
        if token is None or not is_public(token.payload):
            return None
        grant = self._verify(token, now)
        self._remembered[name] = grant
        if len(self._remembered) > MOST_REMEMBERED:
            self._remembered.popitem(last=False)
        return grant

    def _verify(self, token: Token, now: float) -> Grant:
        subject = token.payload.get("sub")
        kid = token.header.get("kid")
        for key in self._ring.verifiers(token.payload.get("iss"), kid, now):
            environment = key.environment_of(subject)
            if environment in self._ring.environments and token.verified(key.algorithm, key.key):
                return self._grant(token, key, environment, now)
        raise UnknownCredentialError(INVALID)

    def _grant(self, token: Token, key: TokenKey, environment: str, now: float) -> Grant:
        claims = read_claims(token.payload, key.audience, now)
        limits = [claims.expires_at, *([] if key.expires_at is None else [key.expires_at])]
        return Grant(
            environment,
            claims.scopes,
            public=True,
            skip_columns=claims.skip_columns,
            expires_at=min(limits),
            digest=token.digest if claims.one_time else None,
            tables=claims.tables,
            key=key.identity,
        )

    # -- giving out --------------------------------------------------------------------------------

    def mint(
        self,
        environment: str,
        scopes: Iterable[Scope | str],
        seconds: float,
        realtime: Mapping[str, object] | None = None,
        *,
        one_time: bool = False,
        shapes: Sequence[Mapping[str, object]] = (),
    ) -> str:
        """A token for the environment that lasts `seconds`. Raises SettingsError without a key."""
        now = self._now()
        key = self._ring.signer(environment, now)
        if key is None or key.kid is None:
            raise SettingsError(
                f"the environment {environment} has no key to sign tokens with: give it a secret "
                "key that has not expired"
            )
        payload: dict[str, object] = {
            **self.claims(environment),
            "iss": ISSUER,
            "aud": AUDIENCE,
            "iat": int(now),
            "exp": int(now + seconds),
            "scopes": [str(scope) for scope in scopes],
        }
        if realtime is not None:
            payload["realtime"] = dict(realtime)
        if one_time:
            payload |= {"otu": True, "jti": _unique()}
        if shapes:
            payload["shapes"] = list(shapes)
        return sign(payload, key.key, key.kid)

    def seal(self, environment: str, text: str) -> str:
        """What shows that a text comes from here, e.g. an address. Raises SettingsError."""
        key = self._ring.signer(environment, self._now())
        if key is None:
            raise SettingsError(f"the environment {environment} has no key to sign with")
        return seal_of(key.key, environment, text)

    def seals(self, text: str) -> list[str]:
        """What `seal` gives, or gave, for this text: in all environments, with all keys that count."""
        now = self._now()
        return [
            seal_of(key.key, environment, text)
            for environment in sorted(self._ring.environments)
            for key in self._ring.signers(environment, now)
        ]

    def is_sealed(self, environment: str, text: str, seal: str) -> bool:
        """Whether `seal` gave this seal, with a key that still counts."""
        keys = self._ring.verifiers(ISSUER, None, self._now())
        return any(
            key.environment in (None, environment)
            and key.algorithm == "HS256"
            and hmac.compare_digest(seal_of(key.key, environment, text).encode(), seal.encode())
            for key in keys
        )

    def claims(self, environment: str) -> dict[str, object]:
        """What all tokens of an environment say."""
        return {"sub": environment, "pub": True}

    def claims_to_sign(self, environment: str) -> dict[str, object]:
        """What clients that sign for themselves put into one token. It differs each time, since two
        tokens that may be used once must not be the same when they are made in the same second."""
        return {**self.claims(environment), "jti": _unique()}

    def token_headers(
        self,
        environment: str,
        scopes: Iterable[Scope | str],
        seconds: float,
        realtime: Mapping[str, object] | None = None,
    ) -> tuple[tuple[bytes, bytes], ...]:
        """The headers by which an answer carries a token for what it is about."""
        token = self.mint(environment, scopes, seconds, realtime)
        claims = orjson.dumps(self.claims(environment))
        return (b"x-trigger-jwt", token.encode()), (b"x-trigger-jwt-claims", claims)

    # -- keys --------------------------------------------------------------------------------------

    def refresh(self) -> bool:
        """Read the files again if one has changed; True if the keys are others now.

        What cannot be used is logged, and the keys stay as they were until it can.
        """
        if not self._trouble and self._files == {path: _stamp(path) for path in self._files}:
            return False
        try:
            self._ring = self._read()
        except SettingsError as error:
            if self._trouble != str(error):
                self._trouble = str(error)
                log.error("the keys stay as they were: %s", error)
            return False
        self._trouble = ""
        log.info("the keys have been read again")
        return True

    def _read(self) -> KeyRing:
        path = self._settings.config_file
        known = () if path is None else (path,)
        while True:
            # Before the reading: what changes meanwhile is noticed then.
            self._files = {path: _stamp(path) for path in known}
            keys = read_access_keys(self._settings)
            if set(keys.files) <= set(known):
                break
            known = keys.files
        self._remembered.clear()
        self.edition += 1
        ring = KeyRing(keys, insecure=self._settings.insecure)
        self._identities = ring.identities
        return ring


def _unique() -> str:
    return secrets.token_hex(12)


def _bearer(authorization: str | None) -> str:
    scheme, _, credential = (authorization or "").strip().partition(" ")
    if scheme.lower() != "bearer" or not credential.strip():
        raise UnknownCredentialError(MISSING)
    return credential.strip()


def _stamp(path: Path) -> Stamp:
    try:
        status = os.stat(path)
    except OSError:
        return None
    return status.st_mtime_ns, status.st_size, status.st_ino
