"""Performs plans by blocking the thread."""

from __future__ import annotations

import inspect
import socket
import threading
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import suppress
from types import TracebackType
from typing import Any, Generic, Self, TypeVar

import httpx2

from pgtide.configuration import Configuration
from pgtide.errors import InvalidRequestError
from pgtide.protocol.steps import (
    Answer,
    Clock,
    Close,
    Credential,
    Emit,
    Ended,
    Fetch,
    Open,
    Pause,
    Plan,
    Read,
    Request,
    Step,
    Values,
)
from pgtide.transport import build, headers_of, limits, lost

T = TypeVar("T")

BROKEN = (httpx2.TransportError, httpx2.StreamError, httpx2.DecodingError)


class Driver:
    """Connections to one server. Plans that are iterated have one of their own each, which another
    thread can end."""

    def __init__(self, configuration: Configuration, http: httpx2.Client | None = None) -> None:
        self.configuration = configuration
        # Made once, because that takes 20 ms.
        self._context = httpx2.create_ssl_context()
        self._http = http or self._connections()
        self._owns = http is None
        self._token: str | None = None
        self._asking = threading.Lock()

    def run(self, plan: Plan[T]) -> T:
        """Perform a plan that emits nothing; its result."""
        port = _Port(self, self._http)
        try:
            end = port.advance(plan)
            assert isinstance(end, Ended), "a plan that emits is to be iterated"
            return end.value
        finally:
            port.close()

    def iterate(self, plan: Plan[None], line: Line) -> Generator[Any]:
        """Perform a plan; what it emits, until it ends or the line is cut."""
        http = self._connections() if self._owns else self._http
        port = _Port(self, http, line)
        try:
            while isinstance(step := port.advance(plan), Emit):
                yield step.value
        except LineCutError:
            return
        finally:
            port.close()
            if self._owns:
                http.close()

    def close(self) -> None:
        if self._owns:
            self._http.close()

    def _connections(self) -> httpx2.Client:
        return httpx2.Client(limits=limits(), verify=self._context)

    def send(
        self, http: httpx2.Client, request: Request, line: Line | None = None
    ) -> httpx2.Response:
        extensions = {} if line is None else {"trace": line.trace}
        built = build(http, self.configuration.base_url, request, extensions)
        try:
            return http.send(built, stream=True)
        except BROKEN as error:
            raise lost(request, error) from error

    def token(self, refused: str | None) -> str | None:
        """Several that are refused at once share the next token."""
        source = self.configuration.token
        if not callable(source):
            return source
        with self._asking:
            if self._token is None or self._token == refused:
                made = source()
                if inspect.isawaitable(made):
                    raise InvalidRequestError("pgtide.sync needs a function that is not async")
                self._token = made
            return self._token


class LineCutError(Exception):
    """Another thread closed the iteration."""


class Line:
    """Through which another thread ends a request that blocks."""

    def __init__(self) -> None:
        self._cut = threading.Event()
        self._socket: socket.socket | None = None

    @property
    def is_cut(self) -> bool:
        return self._cut.is_set()

    def cut(self) -> None:
        self._cut.set()
        if self._socket is not None:
            # Of the base class: TLS's own would wait for its turn. It may be closed by now.
            with suppress(OSError):
                socket.socket.shutdown(self._socket, socket.SHUT_RDWR)

    def wait(self, seconds: float) -> None:
        self._cut.wait(seconds)

    def trace(self, event: str, info: dict[str, Any]) -> None:
        """Called by the transport with what it does; learns of new connections."""
        if event in ("connection.connect_tcp.complete", "connection.start_tls.complete"):
            self._socket = info["return_value"].get_extra_info("socket")
            if self.is_cut:
                self.cut()


class _Port:
    """Performs the steps of one plan; holds the answer that it has open."""

    def __init__(self, driver: Driver, http: httpx2.Client, line: Line | None = None) -> None:
        self._driver = driver
        self._http = http
        self._line = line
        self._request: Request | None = None
        self._response: httpx2.Response | None = None
        self._pieces: Iterator[bytes] | None = None

    def advance(self, plan: Plan[T]) -> Emit | Ended[T]:
        """As far as its next value, or its end. Raises LineCutError."""
        result: Any = None
        error: Exception | None = None
        while True:
            if self._line is not None and self._line.is_cut:
                raise LineCutError
            try:
                step = plan.send(result) if error is None else plan.throw(error)
            except StopIteration as end:
                return Ended(end.value)
            if isinstance(step, Emit):
                return step
            try:
                result, error = self._perform(step), None
            except Exception as raised:  # Everything that goes wrong is the plan's to judge.
                result, error = None, raised

    def _perform(self, step: Step) -> Any:
        match step:
            case Fetch(request):
                return self._fetch(request)
            case Open(request):
                return self._open(request)
            case Read():
                return self._read()
            case Close():
                self.close()
            case Pause(seconds):
                self._pause(seconds)
            case Clock():
                return time.monotonic()
            case Credential(refused):
                return self._driver.token(refused)
            case Emit():
                raise AssertionError("not a step to perform")
        return None

    def _pause(self, seconds: float) -> None:
        if self._line is None:
            time.sleep(seconds)
        else:
            self._line.wait(seconds)

    def _fetch(self, request: Request) -> Answer:
        began = time.monotonic()
        response = self._driver.send(self._http, request, self._line)
        try:
            body = response.read()
        except BROKEN as error:
            raise lost(request, error) from error
        finally:
            response.close()
        return Answer(response.status_code, headers_of(response), body, time.monotonic() - began)

    def _open(self, request: Request) -> Answer:
        self.close()
        began = time.monotonic()
        response = self._driver.send(self._http, request, self._line)
        self._request, self._response = request, response
        self._pieces = response.iter_bytes()
        seconds = time.monotonic() - began
        return Answer(response.status_code, headers_of(response), b"", seconds)

    def _read(self) -> bytes:
        assert self._pieces is not None, "nothing is open"
        try:
            return next(filter(None, self._pieces), b"")
        except BROKEN as error:
            raise lost(self._request, error) from error

    def close(self) -> None:
        response, self._response, self._pieces = self._response, None, None
        if response is not None:
            response.close()


class Subscription(Generic[T]):
    """What an iteration gets, one after the other, until it ends or is closed.

    `close` may be called from any thread; a thread that waits for the next value is woken and its
    loop ends. `with` closes it for certain, also when the loop is left by `break`.
    """

    def __init__(self, driver: Callable[[], Driver], values: Values[T]) -> None:
        self._line = Line()
        self._values: Generator[T] = _iterated(driver, values.plan, self._line)

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> T:
        return next(self._values)

    def close(self) -> None:
        self._line.cut()
        # While another thread is inside, that one ends it.
        with suppress(ValueError):
            self._values.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def _iterated(driver: Callable[[], Driver], plan: Plan[None], line: Line) -> Generator[Any]:
    """The driver is asked for when the first value is."""
    yield from driver().iterate(plan, line)
