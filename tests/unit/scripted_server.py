"""A server of streams whose answers are written down beforehand, for plans of the Python SDK."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from pgtide.errors import ConnectionLostError
from pgtide.protocol.steps import (
    Answer,
    Clock,
    Close,
    Credential,
    Emit,
    Fetch,
    Open,
    Pause,
    Plan,
    Read,
    Request,
)

EVENTS = {"content-type": "text/event-stream", "x-stream-version": "v2"}
LOST = ConnectionLostError("cut")
RUN = {"id": "run_1", "status": "EXECUTING", "createdAt": "2026-01-01T00:00:00.000Z"}


def answer(status: int = 200, body: object = b"", **headers: str) -> Answer:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    known = {name.replace("_", "-"): value for name, value in headers.items()}
    return Answer(status, known, data, 0.0)


def batch(first: int, *values: object) -> bytes:
    records = [
        {"seq_num": first + place, "timestamp": 1000, "body": json.dumps({"data": value})}
        for place, value in enumerate(values)
    ]
    return f"event: batch\ndata: {json.dumps({'records': records})}\n\n".encode()


def end(reason: str) -> bytes:
    return f'event: end\ndata: {{"reason":"{reason}"}}\n\n'.encode()


def connection(*pieces: bytes | Exception) -> list[Answer | bytes | Exception]:
    """An event stream that ends after these pieces, or breaks with an exception."""
    return [Answer(200, EVENTS, b"", 0.0), *pieces, b""]


class Server:
    """Performs a plan's steps: answers, and the pieces of their bodies, come from a list, in order.

    The end of the list is the end of the test; an exception is what happens to the connection, which
    takes a tenth of a second to make.
    """

    def __init__(self, *answers: Answer | bytes | Exception, tokens: Sequence[str] = ()) -> None:
        self.answers = list(answers)
        self.tokens = list(tokens)
        self.requests: list[Request] = []
        self.pauses: list[float] = []
        self.emitted: list[Any] = []
        self.time = 0.0
        self.reading_seconds = 0.0

    def perform(self, plan: Plan[Any]) -> Any:
        result: Any = None
        error: Exception | None = None
        while True:
            try:
                step = plan.send(result) if error is None else plan.throw(error)
            except StopIteration as ended:
                return ended.value
            result = error = None
            if isinstance(step, Fetch | Open):
                self.requests.append(step.request)
                self.time += 0.1
                while self.answers and isinstance(self.answers[0], bytes):
                    del self.answers[0]  # The rest of a body that was left.
                if not self.answers:
                    return plan.close()
            if isinstance(step, Read):
                self.time += self.reading_seconds
            match step:
                case Fetch() | Open() | Read():
                    result = self.answers.pop(0)
                    if isinstance(result, Exception):
                        result, error = None, result
                case Pause(seconds):
                    self.pauses.append(seconds)
                    self.time += seconds
                case Clock():
                    result = self.time
                case Credential():
                    result = self.tokens.pop(0) if self.tokens else None
                case Emit(value):
                    self.emitted.append(value)
                case Close():
                    pass

    def headers(self, name: str) -> list[str | None]:
        return [dict(request.headers).get(name) for request in self.requests]

    @property
    def values(self) -> list[Any]:
        return [record.value for record in self.emitted]
