"""Performs plans with asyncio."""

from __future__ import annotations

import asyncio
import inspect
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from types import TracebackType
from typing import Any, Generic, Self, TypeVar

import httpx2

from pgtide.configuration import Configuration
from pgtide.errors import ConnectionLostError
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
    """Connections to one server, shared by all plans."""

    def __init__(
        self, configuration: Configuration, http: httpx2.AsyncClient | None = None
    ) -> None:
        self.configuration = configuration
        self._http = http or httpx2.AsyncClient(limits=limits())
        self._owns = http is None
        self._token: str | None = None
        self._asking = asyncio.Lock()

    async def run(self, plan: Plan[T]) -> T:
        """Perform a plan that emits nothing; its result."""
        port = Port(self)
        try:
            end = await port.advance(plan)
            assert isinstance(end, Ended), "a plan that emits is to be iterated"
            return end.value
        finally:
            await port.close()

    async def close(self) -> None:
        if self._owns:
            await self._http.aclose()

    async def open(self, request: Request) -> httpx2.Response:
        built = build(self._http, self.configuration.base_url, request)
        try:
            return await self._http.send(built, stream=True)
        except BROKEN as error:
            raise lost(request, error) from error

    async def token(self, refused: str | None) -> str | None:
        """Several that are refused at once share the next token."""
        source = self.configuration.token
        if not callable(source):
            return source
        async with self._asking:
            if self._token is None or self._token == refused:
                made = source()
                self._token = await made if inspect.isawaitable(made) else made
            return self._token


class Port:
    """Performs the steps of one plan; holds the answer that it has open."""

    def __init__(self, driver: Driver) -> None:
        self._driver = driver
        self._request: Request | None = None
        self._response: httpx2.Response | None = None
        self._pieces: AsyncIterator[bytes] | None = None
        self._unfinished: Step | None = None

    async def advance(self, plan: Plan[T]) -> Emit | Ended[T]:
        """As far as its next value, or its end. If that is cancelled, the next call goes on."""
        result, error = None, None
        if self._unfinished is not None:
            result, error = await self._attempt(self._unfinished)
        while True:
            try:
                step = plan.send(result) if error is None else plan.throw(error)
            except StopIteration as end:
                return Ended(end.value)
            if isinstance(step, Emit):
                return step
            result, error = await self._attempt(step)

    async def _attempt(self, step: Step) -> tuple[Any, Exception | None]:
        """The step's result, or what went wrong, which is the plan's to judge."""
        self._unfinished = step
        try:
            result, error = await self._perform(step), None
        except Exception as raised:
            result, error = None, raised
        self._unfinished = None
        return result, error

    async def _perform(self, step: Step) -> Any:
        match step:
            case Fetch(request):
                return await self._fetch(request)
            case Open(request):
                return await self._open(request)
            case Read():
                return await self._read()
            case Close():
                await self.close()
            case Pause(seconds):
                await asyncio.sleep(seconds)
            case Clock():
                return time.monotonic()
            case Credential(refused):
                return await self._driver.token(refused)
            case Emit():
                raise AssertionError("not a step to perform")
        return None

    async def _fetch(self, request: Request) -> Answer:
        began = time.monotonic()
        response = await self._driver.open(request)
        try:
            body = await response.aread()
        except BROKEN as error:
            raise lost(request, error) from error
        finally:
            await response.aclose()
        return Answer(response.status_code, headers_of(response), body, time.monotonic() - began)

    async def _open(self, request: Request) -> Answer:
        await self.close()
        began = time.monotonic()
        self._request, self._response = request, await self._driver.open(request)
        self._pieces = self._response.aiter_bytes()
        headers = headers_of(self._response)
        return Answer(self._response.status_code, headers, b"", time.monotonic() - began)

    async def _read(self) -> bytes:
        if self._pieces is None:
            raise ConnectionLostError("reading the answer was interrupted")
        try:
            async for piece in self._pieces:
                if piece:
                    return piece
        except BROKEN as error:
            raise lost(self._request, error) from error
        return b""

    async def close(self) -> None:
        pieces, self._pieces = self._pieces, None
        response, self._response = self._response, None
        try:
            if isinstance(pieces, AsyncGenerator):
                await pieces.aclose()
        finally:
            if response is not None:
                await response.aclose()


class Subscription(Generic[T]):
    """What an iteration gets, one after the other, until it ends or is closed.

    `async for` over it. Cancelling, or `aclose`, ends the request at the server at once; after a
    cancelled `anext` (a timeout, say) the next one goes on without a gap. `async with` closes it for
    certain, also when the loop is left by `break`.
    """

    def __init__(self, driver: Callable[[], Driver], values: Values[T]) -> None:
        self._driver = driver
        self._plan = values.plan
        self._port: Port | None = None
        self._values: AsyncGenerator[T] | None = None
        self._closed = False

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> T:
        if self._closed:
            raise StopAsyncIteration
        if self._port is None:
            self._port = Port(self._driver())
        if self._values is None:
            self._values = _values(self._port, self._plan)
        try:
            return await anext(self._values)
        except asyncio.CancelledError:
            self._values = None
            raise

    async def aclose(self) -> None:
        self._closed = True
        values, self._values = self._values, None
        if values is not None:
            await values.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.aclose()


async def _values(port: Port, plan: Plan[None]) -> AsyncGenerator[Any]:
    """A generator, because asyncio closes those that nobody holds any more."""
    try:
        while isinstance(step := await port.advance(plan), Emit):
            yield step.value
    finally:
        await port.close()
