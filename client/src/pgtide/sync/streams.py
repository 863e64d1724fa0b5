"""Streams of runs: defined, written, read, stopped."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Generic, TypeVar

from pgtide.protocol import record_reading, run_streams
from pgtide.protocol.channels import GIVE_UP_SECONDS, RunChannel
from pgtide.protocol.record_reading import SILENT_SECONDS, After, Record, Start
from pgtide.protocol.run_following import Identity
from pgtide.protocol.run_streams import DEFAULT_KEY, Registered
from pgtide.sync.driver import Driver, Subscription
from pgtide.sync.face import Face, awaited, iterated
from pgtide.sync.writing import Pipe, Writer

T = TypeVar("T")


class Streams(Face):
    """The streams of runs: values that are written one after the other and read as they come."""

    read = iterated(record_reading.read_stream)
    read_input = iterated(record_reading.read_input)
    stop = awaited(run_streams.stop)
    send_input = awaited(run_streams.send_input)
    close = awaited(run_streams.close)

    def __init__(self, driver: Callable[[], Driver]) -> None:
        super().__init__(driver)
        self._registered = Registered()

    def append(
        self, run: Identity, key: str, value: Any, *, access_token: str | None = None
    ) -> None:
        """Append one value, whatever happens to the connection: once."""
        plan = run_streams.append(self._registered, run, key, value, access_token=access_token)
        self.perform(plan)

    def writer(
        self,
        run: Identity,
        key: str = DEFAULT_KEY,
        *,
        producer: str | None = None,
        close: bool = False,
        give_up_seconds: float = GIVE_UP_SECONDS,
        access_token: str | None = None,
    ) -> Writer[Any]:
        """Write values: `with streams.writer(run, "tokens") as out: out.write("Hel")`.

        `producer` names who writes, so that a process that is started again goes on where the one
        before it was: `out.position` is how many of its values are stored. The earlier process, if it
        still lives, can write no more (ProducerReplacedError). Without a name it writes from scratch.
        `close`: the stream ends with the block. `give_up_seconds`: for how long a server may be away
        before `write` raises.
        """
        channel = RunChannel(self._registered, run, key, producer, access_token)
        return Writer(self._driver, channel, close=close, give_up_seconds=give_up_seconds)

    def pipe(
        self,
        run: Identity,
        key: str,
        source: Iterable[T],
        *,
        producer: str | None = None,
        close: bool = False,
        give_up_seconds: float = GIVE_UP_SECONDS,
        access_token: str | None = None,
    ) -> Pipe[T]:
        """Hand a source on to a stream: iterate over what this returns as over the source, or call
        `wait_until_complete()`, or both.

        With a `producer`'s name, the source of a process that is started again begins anew, and what
        is stored of it is not stored again. The other options are those of `writer`.
        """
        channel = RunChannel(self._registered, run, key, producer, access_token)
        writer = Writer[T](self._driver, channel, close=close, give_up_seconds=give_up_seconds)
        return Pipe(writer, source)

    def define(
        self,
        key: str,
        value_type: type[T] | None = None,
        *,
        encode: Callable[[T], Any] | None = None,
        decode: Callable[[Any], T] | None = None,
    ) -> DefinedStream[T]:
        """A stream's key and the type of its values, said once: `tokens = streams.define("tokens",
        str)`, then `tokens.pipe(run, source)`, `tokens.read(run)`.

        `encode` makes what JSON can hold of a value, `decode` a value of that; `value_type`
        is for type checkers only.
        """
        return DefinedStream(self._driver, self._registered, key, encode, decode)


class DefinedStream(Face, Generic[T]):
    """One stream of every run, with values of one type: what `streams.define` returns. Its methods are
    those of `streams`, without the key."""

    def __init__(
        self,
        driver: Callable[[], Driver],
        registered: Registered,
        key: str,
        encode: Callable[[T], Any] | None = None,
        decode: Callable[[Any], T] | None = None,
    ) -> None:
        super().__init__(driver)
        self.key = run_streams.checked_key(key)
        self._registered = registered
        self._encode = encode
        self._decode = decode

    def read(
        self,
        run: Identity,
        *,
        after: After | None = None,
        start: Start = "beginning",
        access_token: str | None = None,
        max_retries: int | None = None,
        silent_seconds: float = SILENT_SECONDS,
    ) -> Subscription[Record[T]]:
        values = record_reading.read_stream(
            run,
            self.key,
            after=after,
            start=start,
            access_token=access_token,
            max_retries=max_retries,
            silent_seconds=silent_seconds,
        )
        return self.follow_plan(record_reading.decoded(values, self._decode))

    def writer(
        self,
        run: Identity,
        *,
        producer: str | None = None,
        close: bool = False,
        give_up_seconds: float = GIVE_UP_SECONDS,
        access_token: str | None = None,
    ) -> Writer[T]:
        channel = self._channel(run, producer, access_token)
        return Writer(self._driver, channel, close=close, give_up_seconds=give_up_seconds)

    def pipe(
        self,
        run: Identity,
        source: Iterable[T],
        *,
        producer: str | None = None,
        close: bool = False,
        give_up_seconds: float = GIVE_UP_SECONDS,
        access_token: str | None = None,
    ) -> Pipe[T]:
        channel = self._channel(run, producer, access_token)
        writer = Writer[T](self._driver, channel, close=close, give_up_seconds=give_up_seconds)
        return Pipe(writer, source)

    def append(self, run: Identity, value: T, *, access_token: str | None = None) -> None:
        made: Any = value if self._encode is None else self._encode(value)
        plan = run_streams.append(self._registered, run, self.key, made, access_token=access_token)
        self.perform(plan)

    def stop(
        self,
        run: Identity,
        *,
        reason: str | None = None,
        data: Mapping[str, Any] | None = None,
        access_token: str | None = None,
    ) -> None:
        self.perform(
            run_streams.stop(run, self.key, reason=reason, data=data, access_token=access_token)
        )

    def close(self, run: Identity, *, access_token: str | None = None) -> None:
        self.perform(run_streams.close(run, self.key, access_token=access_token))

    def _channel(self, run: Identity, producer: str | None, access_token: str | None) -> RunChannel:
        return RunChannel(self._registered, run, self.key, producer, access_token, self._encode)
