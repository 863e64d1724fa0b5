"""bytea and hardware addresses: their values are Postgres's own texts, which sort as the bytes do."""

from __future__ import annotations

import re

_ESCAPE = re.compile(r"\\(?:(\\)|([0-3][0-7]{2}))?")
_HEX = re.compile(r"\\x(?:[ \n\t\r]*[0-9a-fA-F]{2})*[ \n\t\r]*")
_BLANKS = re.compile(r"[ \n\t\r]+")
_PAIR = "([0-9a-fA-F]{2})"
_MACADDR = re.compile(
    "|".join(
        (
            *(sign.join([_PAIR] * 6) for sign in (":", "-")),
            *(f"{_PAIR * 3}{sign}{_PAIR * 3}" for sign in (":", "-")),
            *(sign.join([_PAIR * 2] * 3) for sign in (r"\.", "-")),
            _PAIR * 6,
        )
    )
)


def read_bytea(text: str) -> str:
    """Either form that Postgres reads. Raises ValueError."""
    if text[:2] == "\\x":
        if _HEX.fullmatch(text) is None:
            raise ValueError("not pairs of hexadecimal digits")
        return _BLANKS.sub("", text).lower()
    body = bytearray()
    position = 0
    for match in _ESCAPE.finditer(text):
        body += text[position : match.start()].encode()
        if match[1] is None and match[2] is None:
            raise ValueError("a backslash that begins no escape")
        body += b"\\" if match[1] is not None else bytes((int(match[2], 8),))
        position = match.end()
    return "\\x" + (body + text[position:].encode()).hex()


def read_macaddr(text: str) -> str:
    match = _MACADDR.fullmatch(text.strip(" "))
    if match is None:
        raise ValueError("not a MAC address as it is usually written")
    return ":".join(pair for pair in match.groups() if pair is not None).lower()


def length(value: str) -> int:
    """In bytes, of a bytea."""
    return len(value) // 2 - 1


def joined(left: str, right: str) -> str:
    return left + right[2:]
