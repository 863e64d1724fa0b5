"""Texts, identifiers, UUIDs and booleans as Postgres reads them."""

from __future__ import annotations

import re

_NAME_BYTES = 63
_UUID = re.compile(r"(?:[0-9a-fA-F]{4}-?){7}[0-9a-fA-F]{4}")
_TRUE = ("true", "yes", "on", "1")
_FALSE = ("false", "no", "off", "0")


def read_text(text: str) -> str:
    return text


def read_bpchar(text: str) -> str:
    """char(n) compares without its trailing blanks, so its value is without them."""
    return text.rstrip(" ")


def read_name(text: str) -> str:
    """Cut to what fits, at the end of a character."""
    return text.encode()[:_NAME_BYTES].decode(errors="ignore")


def read_uuid(text: str) -> str:
    body = text[1:-1] if text[:1] == "{" and text[-1:] == "}" else text
    if _UUID.fullmatch(body) is None:
        raise ValueError("not a UUID")
    digits = body.replace("-", "").lower()
    return "-".join((digits[:8], digits[8:12], digits[12:16], digits[16:20], digits[20:]))


def read_bool(text: str) -> bool:
    """Any prefix that says which: `t`, `tr`, …; `o` could be on or off."""
    text = text.strip(" \t\n\r\f\v").lower()
    if text and text != "o":
        if any(word.startswith(text) for word in _TRUE):
            return True
        if any(word.startswith(text) for word in _FALSE):
            return False
    raise ValueError("not a boolean")


def parse_bool(text: str) -> bool:
    """Live changes spell booleans `t` and `f`, snapshots `true` and `false`."""
    return text[0] == "t"


def write_flag(value: bool) -> str:
    """As it is within an array."""
    return "t" if value else "f"


def write_bool(value: bool) -> str:
    return "true" if value else "false"
