"""How what a producer writes gets to a stream of a run: its requests, and what their answers mean."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, Protocol

from pgtide.errors import (
    InvalidRequestError,
    PgtideError,
    ProducerReplacedError,
    StreamClosedError,
    StreamStoppedError,
    UnexpectedAnswerError,
)
from pgtide.protocol.exchange import Patience, attempt, dump
from pgtide.protocol.outbox import BATCH_COUNT, Outgoing
from pgtide.protocol.record_reading import watch_stop
from pgtide.protocol.run_calls import retrieve
from pgtide.protocol.run_following import Identity, identity_of
from pgtide.protocol.run_streams import (
    RUN_IS_OVER,
    TEXT_LINES,
    Registered,
    Stop,
    close,
    writing_path,
)
from pgtide.protocol.steps import Answer, Plan, Request, Values

CLAIMS = 5
GIVE_UP_SECONDS = 300.0
"""For so long a producer puts up with a server that is away; see `writer`."""
LEAVING_SECONDS = 5.0
"""And for so long one whose block ends with an error."""


class Channel(Protocol):
    """One producer's way to one stream. Batches go one after the other; the same one may go twice."""

    most_together: int

    def encode(self, value: Any) -> bytes:
        """A value as it is sent. Raises InvalidRequestError for what the stream cannot hold."""
        ...

    def open(self) -> Plan[int]:
        """How many values of this producer are stored. From now on no other process writes as it."""
        ...

    def send(self, batch: Outgoing, patience: Patience) -> Plan[None]:
        """Store values, once. Raises ProducerReplacedError and StreamClosedError."""
        ...

    def close(self, patience: Patience) -> Plan[None]:
        """Nothing comes after what was sent."""
        ...

    def watch(self) -> Values[Stop] | None:
        """Emits a Stop when the producer shall end; None if nobody can ask for that."""
        ...


class RunChannel:
    """To a stream of a run: lines of JSON, each with its number, which the server stores once.

    A named producer's process takes it over from an earlier one by an epoch that is higher than that
    one's: what the earlier one sends later is refused.
    """

    most_together = BATCH_COUNT

    def __init__(
        self,
        registered: Registered,
        run: Identity,
        key: str,
        producer: str | None = None,
        access_token: str | None = None,
        encode: Callable[[Any], Any] | None = None,
    ) -> None:
        if producer is not None and not (
            producer.isascii() and producer.isprintable() and producer
        ):
            raise InvalidRequestError("a producer's name consists of printable ASCII characters")
        self._registered = registered
        self._run = run
        self._key = key
        self._name = producer
        self._token = access_token
        self._path = writing_path(run, key)
        self._producer = producer or uuid.uuid4().hex
        self._epoch: int | None = None
        self._encode = encode

    def encode(self, value: Any) -> bytes:
        return dump(value if self._encode is None else self._encode(value))

    def open(self) -> Plan[int]:
        try:
            yield from self._registered.register(self._run, self._key, self._token)
        except InvalidRequestError as error:
            raise (yield from self._unless_over(error)) from error
        if self._name is None:
            return 0
        return (yield from self._claimed()) + 1

    def send(self, batch: Outgoing, patience: Patience) -> Plan[None]:
        try:
            yield from self._post(batch, patience)
        except InvalidRequestError as error:
            raise (yield from self._unless_over(error)) from error

    def close(self, patience: Patience) -> Plan[None]:
        yield from close(self._run, self._key, access_token=self._token)

    def watch(self) -> Values[Stop] | None:
        return watch_stop(self._run, self._key, self._token)

    def _unless_over(self, error: InvalidRequestError) -> Plan[PgtideError]:
        """The error that it is: the server refuses what is written to a run that is over."""
        if error.status == 400:
            run = yield from retrieve(self._run, access_token=self._token)
            if run.is_finished:
                return StreamStoppedError(
                    f"the run {run.id} is over", Stop(RUN_IS_OVER, None, True)
                )
        return error

    def _claimed(self) -> Plan[int]:
        """The number of the last value that is stored, -1 for none. Of an earlier process nothing
        more is stored from here on: this one's epoch is higher."""
        self._epoch = int(datetime.now(UTC).timestamp() * 1000)
        for _ in range(CLAIMS):
            request, answer = yield from self._sent(Outgoing(0, ()), Patience())
            if answer.status != 409:
                return _number(answer, "x-last-chunk-index", request)
            # Its clock was ahead of this one's.
            self._epoch = _number(answer, "x-producer-epoch", request) + 1
        raise ProducerReplacedError(self._replaced())

    def _post(self, batch: Outgoing, patience: Patience) -> Plan[None]:
        request, answer = yield from self._sent(batch, patience)
        if answer.status != 409:
            return
        if "x-producer-epoch" in answer.headers:
            raise ProducerReplacedError(self._replaced())
        last = answer.headers.get("x-last-chunk-index", "")
        if last and int(last) + 1 < batch.position:
            raise UnexpectedAnswerError(
                f"{request}: the server does not have what was stored before: was the stream deleted?"
            )
        said = answer.body[:200].decode(errors="replace")
        raise StreamClosedError(f"{request}: {said}. Append to another stream", 409)

    def _replaced(self) -> str:
        return f"another process writes as {self._name} to {self._key} of {identity_of(self._run)}"

    def _sent(self, batch: Outgoing, patience: Patience) -> Plan[tuple[Request, Answer]]:
        headers = [
            TEXT_LINES,
            ("x-client-id", self._producer),
            ("x-resume-from-chunk", str(batch.position)),
            ("x-stream-version", "v1"),
        ]
        if self._epoch is not None:
            headers.append(("x-producer-epoch", str(self._epoch)))
        body = b"".join(value + b"\n" for value in batch.values)
        request = Request("POST", self._path, (), tuple(headers), body)
        answer = yield from attempt(request, patience, token=self._token, accept=(409,))
        return request, answer


def _number(answer: Answer, name: str, request: Request) -> int:
    try:
        return int(answer.headers.get(name, ""))
    except ValueError:
        raise UnexpectedAnswerError(f"{request}: no {name}. Is this pgtide's address?") from None
