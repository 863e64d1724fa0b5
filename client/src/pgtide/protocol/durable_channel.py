"""How what a producer writes gets to a stream by its path: idempotent producers of Durable Streams."""

from __future__ import annotations

import uuid
from typing import Any

from pgtide.errors import (
    InvalidRequestError,
    PgtideError,
    ProducerReplacedError,
    StreamClosedError,
)
from pgtide.protocol.durable_streams import (
    JSON,
    close,
    encoded,
    info,
    is_closed,
    joined,
    media_type,
    stream_path,
)
from pgtide.protocol.exchange import Patience, attempt, refusal
from pgtide.protocol.outbox import BATCH_COUNT, Outgoing
from pgtide.protocol.run_streams import Stop
from pgtide.protocol.steps import Answer, Plan, Request, Values

BEYOND = 2**53 - 1
"""A sequence that no producer reaches: asked about it, the server says which one it expects."""


class DurableChannel:
    """A producer's way to a stream by its path.

    A named producer sends each value by itself, with its number, so that a process that is started
    again can ask how many there are; others send several at once. Who opens it takes over from an
    earlier process of the same name if `epoch` is higher than that one's.
    """

    def __init__(
        self,
        path: str,
        content_type: str | None = None,
        producer: str | None = None,
        epoch: int = 0,
        access_token: str | None = None,
    ) -> None:
        if producer is not None and not (
            producer.isascii() and producer.isprintable() and producer
        ):
            raise InvalidRequestError("a producer's name consists of printable ASCII characters")
        self.most_together = 1 if producer else BATCH_COUNT
        self._path = path
        self._content_type = content_type
        self._name = producer
        self._producer = producer or uuid.uuid4().hex
        self._epoch = epoch
        self._token = access_token
        self._sequence = 0

    @property
    def content_type(self) -> str:
        assert self._content_type is not None, "the channel is not open"
        return self._content_type

    def encode(self, value: Any) -> bytes:
        return encoded(value, self.content_type)

    def open(self) -> Plan[int]:
        if self._content_type is None:
            self._content_type = (
                yield from info(self._path, access_token=self._token)
            ).content_type
        if self._name is not None:
            self._sequence = yield from self._stored()
        return self._sequence

    def send(self, batch: Outgoing, patience: Patience) -> Plan[None]:
        sequence = batch.position if self._name else self._sequence
        body = joined(batch.values, self.content_type)
        request = self._request(sequence, body)
        answer = yield from attempt(request, patience, token=self._token, accept=(403, 409))
        if answer.status < 300:
            self._sequence = sequence + 1
            return
        raise self._conflict(request, answer)

    def close(self, patience: Patience) -> Plan[None]:
        yield from close(self._path, access_token=self._token)

    def watch(self) -> Values[Stop] | None:
        return None

    def _stored(self) -> Plan[int]:
        """How many values of this producer and epoch are stored."""
        # Whatever the body: it is not appended.
        request = self._request(BEYOND, b"[0]" if media_type(self.content_type) == JSON else b"0")
        accept = (400, 403, 409)
        answer = yield from attempt(request, Patience(), token=self._token, accept=accept)
        expected = answer.headers.get("producer-expected-seq", "")
        if answer.status == 409 and expected.isdecimal() and not is_closed(answer):
            return int(expected)
        if answer.status == 400 and self._epoch > 0:
            return 0  # A new epoch begins.
        raise self._conflict(request, answer)

    def _request(self, sequence: int, body: bytes) -> Request:
        headers = (
            ("content-type", self.content_type),
            ("producer-id", self._producer),
            ("producer-epoch", str(self._epoch)),
            ("producer-seq", str(sequence)),
        )
        return Request("POST", stream_path(self._path), (), headers, body)

    def _conflict(self, request: Request, answer: Answer) -> PgtideError:
        if answer.status == 403 and "producer-epoch" in answer.headers:
            return ProducerReplacedError(
                f"{request}: {self._name or 'this producer'} is at epoch"
                f" {answer.headers['producer-epoch']} elsewhere, and {self._epoch} here"
            )
        if answer.status == 409 and is_closed(answer):
            return StreamClosedError(f"{request}: the stream is closed", 409)
        return refusal(request, answer, self._token)
