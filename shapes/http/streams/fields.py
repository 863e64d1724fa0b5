"""Header fields of requests about streams. Pure.

All values are read as they are spelled: `fullmatch`, and ASCII digits only.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Final

from engine.errors import PgtideError

LARGEST_NUMBER: Final = 2**53 - 1
"""Of epochs and sequences: what all languages can count."""

_DIGITS = re.compile(rb"[0-9]{1,32}")
_COUNT = re.compile(rb"0|[1-9][0-9]{0,31}")
_TYPE = re.compile(
    rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+/[!#$%&'*+.^_`|~0-9A-Za-z-]+[ \t]*(;[\x20-\x7e\t]*)?"
)
_LONGEST_TYPE = 200

Fields = Mapping[bytes, bytes]


class StreamRequestError(PgtideError):
    """A request that cannot be served; answered with `status` and the message as text, and with
    `retry_after` seconds if it may come again."""

    code = "invalid_stream_request"

    def __init__(self, message: str, status: int = 400, retry_after: int | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.retry_after = retry_after


def fields_of(headers: Iterable[tuple[bytes, bytes]]) -> Fields:
    """Values by lower-case name; of a header that came several times, all of them, by commas."""
    fields: dict[bytes, bytes] = {}
    for name, value in headers:
        if name in fields:
            value = b"%b, %b" % (fields[name], value)
        fields[name] = value
    return fields


def wants_close(fields: Fields) -> bool:
    """Whether `Stream-Closed` is `true`. Other values mean nothing."""
    value = fields.get(b"stream-closed")
    return value is not None and value.lower() == b"true"


def check_encoding(fields: Fields) -> None:
    """Raises StreamRequestError if the body is compressed: nothing here would decode it, and readers
    would not be told that they have to."""
    if fields.get(b"content-encoding", b"identity").strip().lower() not in (b"", b"identity"):
        raise StreamRequestError("bodies with a Content-Encoding are not taken", 415)


def number_of(fields: Fields, name: bytes) -> int:
    """A number of a producer, any digits. Raises StreamRequestError."""
    value = fields.get(name, b"")
    if _DIGITS.fullmatch(value) is None or int(value) > LARGEST_NUMBER:
        raise StreamRequestError(f"{_spelled(name)} must be digits, at most {LARGEST_NUMBER}")
    return int(value)


def count_of(fields: Fields, name: bytes, most: int) -> int | None:
    """A whole number without zeros before it, None if it is not there. Raises StreamRequestError."""
    value = fields.get(name)
    if value is None:
        return None
    if _COUNT.fullmatch(value) is None or int(value) > most:
        raise StreamRequestError(
            f"{_spelled(name)} must be a whole number without sign or leading zeros, at most {most}"
        )
    return int(value)


def content_type_of(fields: Fields) -> str | None:
    """The content type as it is spelled; None without one, or with one that is none."""
    value = fields.get(b"content-type", b"")
    return _content_type(value) if len(value) <= _LONGEST_TYPE else None


@lru_cache(256)
def _content_type(value: bytes) -> str | None:
    value = value.strip()
    return None if _TYPE.fullmatch(value) is None else value.decode("ascii")


def _spelled(name: bytes) -> str:
    return name.decode().title().replace("Ttl", "TTL")
