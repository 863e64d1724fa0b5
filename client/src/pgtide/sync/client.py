"""A client of one server."""

from __future__ import annotations

from types import TracebackType
from typing import Self, Unpack

import httpx2

from pgtide.configuration import Token, configuration
from pgtide.protocol.definition import ShapeOptions
from pgtide.protocol.messages import Position
from pgtide.sync.driver import Driver
from pgtide.sync.groups import Auth, Metadata, Runs, Streams, Wait
from pgtide.sync.shapes import Shape, ShapeStream


class Client:
    """A server, a credential, and connections that are used again. Close it, or use `with`.

    `access_token` may be a function: it is asked for a token at first, and once more when one is
    refused. `http` is an httpx2 client of your own, e.g. for proxies; it stays open. Threads may
    share a client.
    """

    def __init__(
        self,
        base_url: str | None = None,
        *,
        secret_key: str | None = None,
        access_token: Token | None = None,
        http: httpx2.Client | None = None,
    ) -> None:
        given = configuration(base_url, secret_key=secret_key, access_token=access_token)
        self.driver = Driver(given, http)
        self.runs = Runs(lambda: self.driver)
        self.metadata = Metadata(lambda: self.driver)
        self.streams = Streams(lambda: self.driver)
        self.wait = Wait(lambda: self.driver)
        self.auth = Auth(lambda: self.driver)

    @property
    def base_url(self) -> str:
        return self.driver.configuration.base_url

    def stream(
        self, table: str, *, position: Position | None = None, **options: Unpack[ShapeOptions]
    ) -> ShapeStream:
        """The messages of a shape of any table."""
        return ShapeStream(table, position=position, client=self, **options)

    def shape(self, table: str, **options: Unpack[ShapeOptions]) -> Shape:
        """The rows of a shape of any table, kept up to date."""
        return Shape(table, client=self, **options)

    def close(self) -> None:
        self.driver.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()
