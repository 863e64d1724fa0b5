"""What the headers of a POST say. Pure."""

from __future__ import annotations

from typing import Final, NamedTuple

from shapes.http.streams.fields import (
    Fields,
    StreamRequestError,
    check_encoding,
    content_type_of,
    number_of,
    wants_close,
)
from shapes.streams.stream import Stamp

LONGEST_PRODUCER: Final = 512
"""Bytes of a producer's id."""

LONGEST_SEQUENCE: Final = 4096
"""Bytes of a `Stream-Seq`."""


class AppendRequest(NamedTuple):
    content_type: str | None
    close: bool
    stamp: Stamp | None
    sequence: bytes | None


def read_append(fields: Fields) -> AppendRequest:
    """Raises StreamRequestError."""
    check_encoding(fields)
    sequence = fields.get(b"stream-seq")
    if sequence is not None and len(sequence) > LONGEST_SEQUENCE:
        raise StreamRequestError(f"Stream-Seq is longer than {LONGEST_SEQUENCE} bytes")
    stamp = _stamp(fields)
    return AppendRequest(content_type_of(fields), wants_close(fields), stamp, sequence)


def _stamp(fields: Fields) -> Stamp | None:
    producer = fields.get(b"producer-id")
    if producer is None:
        if b"producer-epoch" in fields or b"producer-seq" in fields:
            raise StreamRequestError("Producer-Epoch and Producer-Seq go together with Producer-Id")
        return None
    if not 0 < len(producer) <= LONGEST_PRODUCER or b"\0" in producer:
        raise StreamRequestError(f"Producer-Id must be 1 to {LONGEST_PRODUCER} bytes")
    if b"producer-epoch" not in fields or b"producer-seq" not in fields:
        raise StreamRequestError("Producer-Id goes together with Producer-Epoch and Producer-Seq")
    epoch, sequence = number_of(fields, b"producer-epoch"), number_of(fields, b"producer-seq")
    return Stamp(producer.decode("latin-1"), epoch, sequence)
