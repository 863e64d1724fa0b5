"""Puts the API together: every module of routes has one line here."""

from __future__ import annotations

from collections.abc import Sequence

from engine.configuration.run_settings import read_run_table
from engine.configuration.settings import Settings
from shapes.access.authority import Authority
from shapes.database import Database
from shapes.http.api.api import Api
from shapes.http.api.batch_routes import batch_routes
from shapes.http.api.change_routes import change_routes
from shapes.http.api.metadata_routes import metadata_routes
from shapes.http.api.packet_routes import packet_routes
from shapes.http.api.retrieve_routes import retrieve_routes
from shapes.http.api.routes import Route
from shapes.http.api.run_routes import run_routes
from shapes.http.api.token_routes import token_routes
from shapes.http.api.trigger_routes import trigger_routes
from shapes.http.api.wait_token_routes import wait_token_routes
from shapes.http.live_limit import LiveLimit
from shapes.http.regulars import Regulars
from shapes.http.shape_endpoint import ShapeEndpoint
from shapes.runs.batches import Batches
from shapes.runs.metadata import RunMetadata
from shapes.runs.packets import PacketAddresses, Packets
from shapes.runs.run_changes import RunChanges
from shapes.runs.run_list import RunList
from shapes.runs.run_lookup import RunLookup
from shapes.runs.run_store import RunStore
from shapes.runs.trigger_keys import TriggerKeyStore
from shapes.runs.triggering import Triggering
from shapes.runs.wait_tokens import WaitTokens


def make_api(
    settings: Settings,
    database: Database,
    endpoint: ShapeEndpoint,
    authority: Authority,
    limit: LiveLimit,
    regulars: Regulars,
    streams: Sequence[Route],
) -> Api:
    """All routes, for one node; `streams` are those of streams."""
    runs = read_run_table(settings.config_file)
    store, keys, packets = RunStore(runs), TriggerKeyStore(), PacketAddresses(authority)
    triggering, changes = Triggering(database, store, keys), RunChanges(database, store)
    routes: list[Route] = [
        *token_routes(authority),
        *run_routes(endpoint, RunLookup(database, runs), runs, limit, regulars),
        *trigger_routes(triggering, authority),
        *retrieve_routes(changes, RunList(database, store), packets, settings.public_url),
        *change_routes(changes, triggering, authority),
        *batch_routes(Batches(database, store, keys, triggering), authority),
    ]
    routes += metadata_routes(RunMetadata(database, runs))
    routes += wait_token_routes(WaitTokens(database), authority, settings.public_url)
    routes += packet_routes(Packets(database), packets, changes, settings.public_url)
    return Api([*routes, *streams], authority)
