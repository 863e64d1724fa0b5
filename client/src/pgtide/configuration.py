"""Where the server is and with which credential it is asked: given in code, or by the environment."""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from pgtide.errors import InvalidRequestError

DEFAULT_URL = "http://127.0.0.1:3000"
URL_NAMES = ("PGTIDE_URL", "TRIGGER_API_URL")
KEY_NAMES = ("PGTIDE_SECRET_KEY", "TRIGGER_SECRET_KEY", "TRIGGER_ACCESS_TOKEN")

Token = str | Callable[[], str | Awaitable[str]]


@dataclass(frozen=True, slots=True)
class Configuration:
    """What a client is made with. `token` is a secret key, a public access token, or a function that
    makes tokens; without one requests carry none, which suffices where pgtide is insecure."""

    base_url: str = DEFAULT_URL
    token: Token | None = field(default=None, repr=False)


def configuration(
    base_url: str | None = None,
    *,
    secret_key: str | None = None,
    access_token: Token | None = None,
    environ: Mapping[str, str] | None = None,
) -> Configuration:
    """What is given, and for what is not: PGTIDE_URL (TRIGGER_API_URL), PGTIDE_SECRET_KEY
    (TRIGGER_SECRET_KEY), http://127.0.0.1:3000. Raises InvalidRequestError."""
    environ = os.environ if environ is None else environ
    if secret_key is not None and access_token is not None:
        raise InvalidRequestError("give secret_key or access_token, not both")
    token = secret_key if access_token is None else access_token
    return Configuration(
        _checked(base_url or _first(environ, URL_NAMES) or DEFAULT_URL),
        token if token is not None else _first(environ, KEY_NAMES),
    )


class _Given:
    """What `configure` was called with last."""

    def __init__(self) -> None:
        self.configuration: Configuration | None = None


_given = _Given()


def configure(
    base_url: str | None = None,
    *,
    secret_key: str | None = None,
    access_token: Token | None = None,
) -> None:
    """What is used, by both faces, wherever no client is given. Calls replace what others said."""
    _given.configuration = configuration(base_url, secret_key=secret_key, access_token=access_token)


def configured() -> Configuration:
    """What `configure` was given, or else what the environment says now."""
    return _given.configuration or configuration()


def _first(environ: Mapping[str, str], names: tuple[str, ...]) -> str | None:
    return next((value for name in names if (value := environ.get(name, "").strip())), None)


def _checked(url: str) -> str:
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise InvalidRequestError("base_url is an address like https://pgtide.example.com")
    if parts.query or parts.fragment or parts.username or parts.password:
        raise InvalidRequestError("base_url has no user, password, query or fragment")
    return url.rstrip("/")
