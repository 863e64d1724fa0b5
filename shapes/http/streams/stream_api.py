"""Puts the streams' routes together."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from engine.configuration.run_settings import read_run_table
from engine.configuration.settings import Settings
from shapes.access.authority import Authority
from shapes.database import Database
from shapes.http.admission import Admission
from shapes.http.api.api import Api
from shapes.http.api.routes import Also, Needs, Route
from shapes.http.crowd import Crowd
from shapes.http.live_limit import LiveLimit
from shapes.http.meter import NodeMeter
from shapes.http.streams.stream_access import WRITE, StreamAccess
from shapes.http.streams.stream_manners import StreamManners
from shapes.http.streams.stream_reads import StreamReads
from shapes.http.streams.stream_writes import BODY_BYTES, StreamWrites
from shapes.runs.definitions import READ
from shapes.runs.run_lookup import RunLookup
from shapes.streams.appending.writer import StreamWriter
from shapes.streams.live.event_streams import EventStreams
from shapes.streams.live.hub import StreamHub
from shapes.streams.storage.store import StreamStore

PATTERN = "/v1/stream/{path*}"


class StreamServices(NamedTuple):
    """A node's streams."""

    store: StreamStore
    writer: StreamWriter
    hub: StreamHub
    event_streams: EventStreams

    def measure(self, meter: NodeMeter, crowd: Crowd, expecting: int) -> None:
        """Show the numbers that change too often to be counted one by one. `expecting`: event streams
        of what nobody has written to yet."""
        _, writer, hub, events = self
        polls = events.waiting + crowd.waiting_for_streams
        meter.waiting("stream_long_poll", polls, events.polled + crowd.delivered_of_streams)
        meter.waiting("stream_sse", len(events) + expecting, events.delivered)
        meter.streams.standing(
            waiting=len(writer),
            followed=len(hub),
            remembered=hub.remembered,
            memory=events.reads.memory,
            table=events.reads.table,
        )


def make_stream_api(
    settings: Settings,
    database: Database,
    authority: Authority,
    admission: Admission,
    limit: LiveLimit,
    services: StreamServices,
    more: Sequence[Route] = (),
) -> Api:
    """All routes of streams, for one node; `more` of them are below the same path."""
    store, writer, hub, event_streams = services
    runs = read_run_table(settings.config_file)
    access = StreamAccess(RunLookup(database, runs))
    reads = StreamReads(settings, store, hub, event_streams, admission, limit, authority)
    writes = StreamWrites(store, writer, settings.public_url)
    writing, reading = Needs(WRITE, access.find_written), Needs(READ, access.find_read)
    creating = Needs(WRITE, access.find_written, also=Also(READ, access.find_source))
    routes = [
        Route(frozenset(("POST",)), PATTERN, writing, writes.append, BODY_BYTES),
        Route(frozenset(("GET",)), PATTERN, reading, reads.read),
        Route(frozenset(("HEAD",)), PATTERN, reading, reads.describe),
        Route(frozenset(("PUT",)), PATTERN, creating, writes.create, BODY_BYTES),
        Route(frozenset(("DELETE",)), PATTERN, writing, writes.delete),
    ]
    return Api([*routes, *more], authority, StreamManners())
