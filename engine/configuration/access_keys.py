"""The keys that say who may do what: from the settings and from the settings file's sections."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, cast

from engine.configuration.file import read_config_file
from engine.configuration.jwk import Jwk, read_jwks
from engine.configuration.settings import Settings
from engine.errors import SettingsError

DEFAULT_ENVIRONMENT = "default"
SHORTEST_KEY = 16
"""Characters of a secret key. Browsers have tokens signed with it, so a short one can be guessed."""

ISSUER = "https://id.trigger.dev"
AUDIENCE = "https://api.trigger.dev"
"""Fixed in Trigger.dev's packages."""

_ENVIRONMENT = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}")
_KEY_ID = re.compile(r"[\x21-\x7e]{1,200}")
_FROM_VARIABLE = "env:"


@dataclass(frozen=True, slots=True)
class SecretKey:
    """What a back end carries. The first of an environment also signs; `expires_at` is in seconds
    since 1970, None for a key that is not on its way out."""

    environment: str
    text: str = field(repr=False)
    expires_at: float | None = None


@dataclass(frozen=True, slots=True)
class RestrictedKey:
    """A secret key with scopes, known by its SHA-256 alone."""

    environment: str
    digest: bytes
    scopes: tuple[str, ...]
    expires_at: float | None = None


@dataclass(frozen=True, slots=True)
class SigningKey:
    """What pgtide signs tokens with, in all environments; the first signs, all verify."""

    kid: str
    text: str = field(repr=False)
    expires_at: float | None = None


@dataclass(frozen=True, slots=True)
class Issuer:
    """Somebody else who signs tokens, for one environment."""

    issuer: str
    audience: str
    environment: str
    keys: tuple[Jwk, ...]


@dataclass(frozen=True, slots=True)
class AccessKeys:
    """All keys. `files` are those that they were read from."""

    secret_keys: tuple[SecretKey, ...] = ()
    restricted_keys: tuple[RestrictedKey, ...] = ()
    signing_keys: tuple[SigningKey, ...] = ()
    issuers: tuple[Issuer, ...] = ()
    files: tuple[Path, ...] = ()

    @property
    def any(self) -> bool:
        """Whether there is a credential that could be accepted."""
        return bool(self.secret_keys or self.restricted_keys or self.issuers)


def read_access_keys(settings: Settings, environ: Mapping[str, str] | None = None) -> AccessKeys:
    """What the settings and their file say. Raises SettingsError.

    `environ` is where values like `env:NAME` are looked up, the process's own if None.
    """
    reading = _Reading(settings, os.environ if environ is None else environ)
    keys = reading.keys()
    _check(keys)
    return keys


def access_warnings(settings: Settings, keys: AccessKeys) -> list[str]:
    """What whoever starts pgtide with these should know."""
    if settings.insecure:
        where = f"{settings.listen_host} port {settings.port}"
        return [f"INSECURE: whoever reaches {where} {_INSECURE}"]
    return [] if keys.any else [_CLOSED]


class _Reading:
    """Reads the sections; every error says where in the file it is."""

    def __init__(self, settings: Settings, environ: Mapping[str, str]) -> None:
        self._settings = settings
        self._environ = environ
        self._path = settings.config_file
        self._files: list[Path] = [] if self._path is None else [self._path]

    def keys(self) -> AccessKeys:
        sections = read_config_file(self._path)
        environments = self._table(sections.get("environments", {}), "environments")
        secrets = [self._given(text) for text in self._settings.secret_keys]
        restricted: list[RestrictedKey] = []
        for name, content in environments.items():
            where = f"environments.{name}"
            if _ENVIRONMENT.fullmatch(name) is None:
                raise self._error(where, "an environment's name has letters, digits and _ . - only")
            table = self._members(content, where, ("secret_keys", "restricted_keys"))
            secrets += self._secret_keys(name, table, where)
            restricted += self._restricted_keys(name, table, where)
        signing = self._members(sections.get("signing_keys", {}), "signing_keys", _SIGNING)
        own = tuple(self._own(signing))
        issuers = tuple(self._issuers(signing))
        return AccessKeys(tuple(secrets), tuple(restricted), own, issuers, tuple(self._files))

    # -- environments ------------------------------------------------------------------------------

    def _given(self, text: str) -> SecretKey:
        if not _is_strong(text):
            raise SettingsError(f"PGTIDE_SECRET_KEYS cannot be used: {_WEAK}")
        return SecretKey(DEFAULT_ENVIRONMENT, text)

    def _secret_keys(
        self, environment: str, table: Mapping[str, Any], where: str
    ) -> Iterator[SecretKey]:
        for at, entry in self._entries(table, "secret_keys", where):
            members = {"key": entry} if isinstance(entry, str) else entry
            one = self._members(members, at, ("key", "expires_at"))
            text = self._secret(one, "key", at)
            yield SecretKey(environment, text, self._time(one, "expires_at", at))

    def _restricted_keys(
        self, environment: str, table: Mapping[str, Any], where: str
    ) -> Iterator[RestrictedKey]:
        for at, entry in self._entries(table, "restricted_keys", where):
            one = self._members(entry, at, ("sha256", "scopes", "expires_at"))
            digest = self._text(one, "sha256", at)
            if re.fullmatch(r"[0-9a-fA-F]{64}", digest) is None:
                raise self._error(f"{at}.sha256", "give the key's SHA-256 in 64 hexadecimal digits")
            scopes = one.get("scopes")
            if not isinstance(scopes, list) or not all(
                isinstance(scope, str) and scope for scope in cast("list[object]", scopes)
            ):
                raise self._error(f"{at}.scopes", "give a list of scopes")
            texts = tuple(cast("list[str]", scopes))
            expires = self._time(one, "expires_at", at)
            yield RestrictedKey(environment, bytes.fromhex(digest), texts, expires)

    # -- signing keys ------------------------------------------------------------------------------

    def _own(self, table: Mapping[str, Any]) -> Iterator[SigningKey]:
        for at, entry in self._entries(table, "own", "signing_keys"):
            one = self._members(entry, at, ("kid", "secret", "expires_at"))
            kid = self._text(one, "kid", at)
            if _KEY_ID.fullmatch(kid) is None:
                raise self._error(f"{at}.kid", "give at most 200 ASCII characters without spaces")
            text = self._secret(one, "secret", at)
            yield SigningKey(kid, text, self._time(one, "expires_at", at))

    def _issuers(self, table: Mapping[str, Any]) -> Iterator[Issuer]:
        for at, entry in self._entries(table, "issuers", "signing_keys"):
            one = self._members(entry, at, _ISSUER)
            if ("keys" in one) == ("jwks_file" in one):
                raise self._error(at, "give either keys or jwks_file")
            try:
                keys = read_jwks(one["keys"] if "keys" in one else self._jwks(one, at))
            except ValueError as error:
                raise self._error(at, str(error)) from None
            yield Issuer(
                self._text(one, "issuer", at, ISSUER),
                self._text(one, "audience", at, AUDIENCE),
                self._text(one, "environment", at, DEFAULT_ENVIRONMENT),
                keys,
            )

    def _jwks(self, table: Mapping[str, Any], where: str) -> object:
        """The keys in a file of the settings file's folder, or of any if the path is absolute."""
        assert self._path is not None
        path = self._path.parent / Path(self._text(table, "jwks_file", where)).expanduser()
        self._files.append(path)
        # Here, because nearly nobody has such a file.
        import json

        try:
            content: object = json.loads(path.read_bytes())
        except OSError as error:
            raise SettingsError(f"the key set {path} cannot be read: {error.strerror}") from error
        except ValueError as error:
            raise SettingsError(f"the key set {path} is not valid JSON: {error}") from None
        if not isinstance(content, dict) or "keys" not in content:
            raise SettingsError(f'the key set {path} has to be a JSON object like {{"keys": […]}}')
        return cast("dict[str, object]", content)["keys"]

    # -- values ------------------------------------------------------------------------------------

    def _secret(self, table: Mapping[str, Any], name: str, where: str) -> str:
        """A secret text, itself or in the variable that it names."""
        text = self._text(table, name, where)
        at = f"{where}.{name}"
        if text.startswith(_FROM_VARIABLE):
            variable = text.removeprefix(_FROM_VARIABLE)
            text = self._environ.get(variable, "")
            if not text:
                raise self._error(at, f"the environment variable {variable} is not set")
        if not _is_strong(text):
            raise self._error(at, _WEAK)
        return text

    def _time(self, table: Mapping[str, Any], name: str, where: str) -> float | None:
        value = table.get(name)
        if value is None:
            return None
        if not isinstance(value, datetime) or value.tzinfo is None:
            raise self._error(
                f"{where}.{name}", "give a time with its zone, like 2030-01-31T12:00:00Z"
            )
        return value.timestamp()

    def _text(
        self, table: Mapping[str, Any], name: str, where: str, default: str | None = None
    ) -> str:
        value = table.get(name, default)
        if not isinstance(value, str) or not value:
            raise self._error(f"{where}.{name}", "give a text")
        return value

    def _entries(
        self, table: Mapping[str, Any], name: str, where: str
    ) -> Iterator[tuple[str, Any]]:
        """The elements of a list, each with its place."""
        entries = table.get(name, [])
        if not isinstance(entries, list):
            raise self._error(f"{where}.{name}", "give a list")
        for number, entry in enumerate(cast("list[object]", entries)):
            yield f"{where}.{name}[{number}]", entry

    def _members(self, value: object, where: str, names: tuple[str, ...]) -> Mapping[str, Any]:
        table = self._table(value, where)
        unknown = sorted(set(table) - set(names))
        if unknown:
            raise self._error(
                where, f"{', '.join(unknown)} is unknown; there are: {', '.join(names)}"
            )
        return table

    def _table(self, value: object, where: str) -> Mapping[str, Any]:
        if not isinstance(value, dict):
            raise self._error(where, "give a table")
        return cast("Mapping[str, Any]", value)

    def _error(self, where: str, message: str) -> SettingsError:
        return SettingsError(f"the settings file {self._path}, {where}: {message}")


def _is_strong(text: str) -> bool:
    return len(text) >= SHORTEST_KEY and re.fullmatch(r"[\x21-\x7e]+", text) is not None


_WEAK = (
    f"a key has at least {SHORTEST_KEY} characters, ASCII without spaces, for example tr_prod_ and "
    "what `openssl rand -hex 16` prints"
)
_INSECURE = (
    "may read and change everything. For anything but a machine of your own set PGTIDE_SECRET_KEYS "
    "or PGTIDE_SECRET, and unset PGTIDE_INSECURE"
)
_CLOSED = (
    "there are no secret keys: /api and /realtime answer 401 to everything. Set PGTIDE_SECRET_KEYS "
    "to use them"
)
_SIGNING = ("own", "issuers")
_ISSUER = ("issuer", "audience", "environment", "keys", "jwks_file")


def _check(keys: AccessKeys) -> None:
    """A key is one environment's, and the id of a signing key one key's. What answers carry is
    signed with a key of the environment, or with one for all of them."""
    owners: dict[str | bytes, str] = {}
    owned: list[tuple[str | bytes, str]] = [(key.text, key.environment) for key in keys.secret_keys]
    owned += [(key.digest, key.environment) for key in keys.restricted_keys]
    for key, environment in owned:
        other = owners.setdefault(key, environment)
        if other != environment:
            raise SettingsError(
                f"the environments {other} and {environment} have a key in common: give each keys "
                "of its own"
            )
    ids = [key.kid for key in keys.signing_keys]
    if len(set(ids)) < len(ids):
        raise SettingsError("two of signing_keys.own have the same kid: give each one of its own")
    if keys.signing_keys:
        return
    able = {key.environment for key in keys.secret_keys}
    limited = (*keys.restricted_keys, *keys.issuers)
    unable = sorted({one.environment for one in limited} - able)
    if unable:
        raise SettingsError(
            f"the environment {unable[0]} has nothing to sign tokens with: give it a secret key "
            "(environments.<name>.secret_keys, or PGTIDE_SECRET_KEYS for the environment default), "
            "or give signing_keys.own"
        )
