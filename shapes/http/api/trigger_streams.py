"""Streams as Trigger.dev's packages know them: what a node has for that beside its streams."""

from __future__ import annotations

import asyncio

from engine.configuration.run_settings import read_run_table
from engine.configuration.settings import Settings
from shapes.access.leases import Leases
from shapes.database import Database
from shapes.http.api.routes import Route
from shapes.http.api.run_stream_routes import run_stream_routes
from shapes.http.api.session_routes import session_routes
from shapes.http.api.stream_reading import StreamReaders
from shapes.http.api.stream_writing import StreamWriting
from shapes.http.streams.stream_api import StreamServices
from shapes.runs.run_ends import RunEnds
from shapes.runs.run_lookup import RunLookup
from shapes.runs.run_store import RunStore
from shapes.runs.run_streams import RunStreams
from shapes.streams.live.arrivals import Arrivals


class TriggerStreams:
    """`run` has to go on for as long as the node serves."""

    def __init__(
        self,
        settings: Settings,
        database: Database,
        leases: Leases,
        services: StreamServices,
    ) -> None:
        table = read_run_table(settings.config_file)
        hub, store = services.hub, services.store
        lookup = RunLookup(database, table)
        self._arrivals = Arrivals(hub, database)
        self._ends = RunEnds(lookup, store)
        services.event_streams.on_stop(self._arrivals.stop)
        waiting = (self._arrivals, self._ends, leases)
        readers = StreamReaders(settings, hub, store, services.event_streams, *waiting)
        writing = StreamWriting(services.writer)
        runs = RunStreams(database, RunStore(table))
        self.routes: list[Route] = [
            *run_stream_routes(lookup, runs, readers, writing),
            *session_routes(hub, store, readers, writing),
        ]

    def __len__(self) -> int:
        """How many readers wait for streams that nobody has written to yet."""
        return len(self._arrivals)

    async def run(self) -> None:
        """Tell those who wait what they wait for, until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._arrivals.run())
            tasks.create_task(self._ends.run())
