"""Plans: what to do over HTTP, apart from who waits for it.

A plan is a generator. It yields steps; a driver (`aio.driver`, `sync.driver`) performs each and sends
the result back, or throws what went wrong into the plan. `return` is the plan's result. A plan that
follows something also yields `Emit`, once per value that its caller shall get.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass, field
from typing import Any, Generic, NamedTuple, TypeVar

T = TypeVar("T")

CONNECT_SECONDS = 10.0
READ_SECONDS = 30.0


@dataclass(frozen=True, slots=True)
class Request:
    """One HTTP request. `path` follows the base URL, unless it is a whole URL itself."""

    method: str
    path: str
    query: tuple[tuple[str, str], ...] = field(default=(), repr=False)
    headers: tuple[tuple[str, str], ...] = field(default=(), repr=False)
    body: bytes | None = field(default=None, repr=False)
    read_seconds: float = READ_SECONDS
    """How long the connection may be silent."""

    def __str__(self) -> str:
        """Without the query, which may hold secrets."""
        return f"{self.method} {self.path.partition('?')[0]}"


class Answer(NamedTuple):
    """`headers` by lower-case name; `seconds` is how long the answer took."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    seconds: float


@dataclass(frozen=True, slots=True)
class Fetch:
    """Perform a request and read the whole answer: an Answer. Throws ConnectionLostError."""

    request: Request


@dataclass(frozen=True, slots=True)
class Open:
    """Perform a request and leave the body to `Read`: an Answer without a body."""

    request: Request


@dataclass(frozen=True, slots=True)
class Read:
    """The next piece of the opened body: bytes, empty at its end."""


@dataclass(frozen=True, slots=True)
class Close:
    """Leave the opened answer."""


@dataclass(frozen=True, slots=True)
class Pause:
    """Wait for so many seconds."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Clock:
    """Seconds of a clock that only goes forward: a float."""


@dataclass(frozen=True, slots=True)
class Credential:
    """The token to send, or None. `refused` is one that the server just refused: if tokens come from a
    function, it is asked for another one."""

    refused: str | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class Emit:
    """Hand a value to whoever iterates."""

    value: Any


@dataclass(frozen=True, slots=True)
class Ended(Generic[T]):
    """Not a step: what drivers make of a plan's end."""

    value: T


Step = Fetch | Open | Read | Close | Pause | Clock | Credential | Emit
Plan = Generator[Step, Any, T]


@dataclass(frozen=True, slots=True)
class Values(Generic[T]):
    """A plan that emits values of one type."""

    plan: Plan[None]


def fetch(request: Request) -> Plan[Answer]:
    answer: Answer = yield Fetch(request)
    return answer


def open_answer(request: Request) -> Plan[Answer]:
    answer: Answer = yield Open(request)
    return answer


def read() -> Plan[bytes]:
    piece: bytes = yield Read()
    return piece


def close() -> Plan[None]:
    yield Close()


def pause(seconds: float) -> Plan[None]:
    yield Pause(seconds)


def clock() -> Plan[float]:
    seconds: float = yield Clock()
    return seconds


def credential(refused: str | None = None) -> Plan[str | None]:
    token: str | None = yield Credential(refused)
    return token


def emit(value: object) -> Plan[None]:
    yield Emit(value)


def relayed(plan: Plan[None], handle: Callable[[Any], Plan[bool]]) -> Plan[None]:
    """Perform a plan whose values go to `handle` instead of its caller, until that says to stop."""
    result: Any = None
    error: Exception | None = None
    try:
        while True:
            try:
                step = plan.send(result) if error is None else plan.throw(error)
            except StopIteration:
                return
            result, error = None, None
            if isinstance(step, Emit):
                if (yield from handle(step.value)):
                    return
                continue
            try:
                result = yield step
            except Exception as raised:
                error = raised
    finally:
        plan.close()
