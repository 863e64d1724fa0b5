"""Takes passwords, secrets and tokens out of text that people will read."""

from __future__ import annotations

import re

MASK = "***"

# Up to the last @: an unescaped @ or / in a password must not show the rest of it.
_URL_PASSWORD = re.compile(r"(\b[a-z][a-z0-9+.-]*://[^\s:/@\"']*:)[^\s\"']*@", re.IGNORECASE)
_NAMED = r"(?:[a-z_-]*(?:secret|password|token|passwd|api_?key)|pgpassword)"
# secret=value in a query string or a connection string (where a value may be quoted).
_PAIR = re.compile(rf"\b({_NAMED}\s*=\s*)(?:'[^']*'|\"[^\"]*\"|[^\s&;,\"'()]+)", re.IGNORECASE)
# "secret": "value" in JSON or a printed dict.
_MEMBER = re.compile(rf"([\"']{_NAMED}[\"']\s*:\s*)(?:'[^']*'|\"[^\"]*\")", re.IGNORECASE)
_BEARER = re.compile(r"\b((?:bearer|basic)\s+)[a-z0-9._~+/=-]{8,}", re.IGNORECASE)


def redact(text: str) -> str:
    """`text` with every password in a URL and every value of a secret's name replaced by `***`."""
    text = _URL_PASSWORD.sub(rf"\1{MASK}@", text)
    text = _MEMBER.sub(rf"\1'{MASK}'", text)
    text = _PAIR.sub(rf"\1{MASK}", text)
    return _BEARER.sub(rf"\1{MASK}", text)
