"""What a node counts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from engine.metrics.numbers import Metric, Number, Numbers, Region
from shapes import stream_meter

if TYPE_CHECKING:
    from shapes.http.exchange import Exchange

Mode = Literal["long_poll", "sse", "stream_long_poll", "stream_sse"]

STATUSES = (
    *("200", "202", "204", "304", "400", "401", "404", "405", "408", "409", "413", "414"),
    *("429", "431", "500", "503", "other"),
)
KINDS = ("snapshot", "catch_up", "long_poll", "sse", "subset", "other")
POOLS = ("initial", "existing")
MODES: tuple[Mode, ...] = ("long_poll", "sse", "stream_long_poll", "stream_sse")
OUTCOMES = ("done", "failed")
SNAPSHOT_SECONDS = (
    0.005,
    0.01,
    0.025,
    0.05,
    0.1,
    0.25,
    0.5,
    1.0,
    2.5,
    5.0,
    10.0,
    30.0,
    60.0,
    300.0,
)

REQUESTS = "electric_plug_serve_shape_requests_count"
REQUESTS_OF_KIND = "pgtide_requests_total"
BODY_BYTES = "pgtide_response_body_bytes_total"
ADMITTED = "electric_admission_control_acquire_current"
REJECTED = "electric_admission_control_reject_count"
TOTAL_SHAPES = "electric_shapes_total_shapes_count"
ACTIVE_SHAPES = "electric_shapes_active_shapes_count"
CONNECTIONS = "pgtide_connections"
READERS = "pgtide_readers"
DELIVERIES = "pgtide_deliveries_total"
SNAPSHOTS = "pgtide_snapshots_total"
SNAPSHOT_TIME = "pgtide_snapshot_seconds"
SNAPSHOT_ROWS = "pgtide_snapshot_rows_total"
LAG = "pgtide_node_lag_bytes"
HORIZON_AGE = "pgtide_log_horizon_age_seconds"

METRICS = (
    Metric(REQUESTS, "counter", "Answers of /v1/shape.", "status", STATUSES),
    Metric(REQUESTS_OF_KIND, "counter", "Answers of /v1/shape, by what was asked.", "kind", KINDS),
    Metric(BODY_BYTES, "counter", "Bytes of the bodies of answers of /v1/shape."),
    Metric(ADMITTED, "gauge", "Requests that are being served.", "kind", POOLS),
    Metric(REJECTED, "counter", "Requests that were one too many.", "kind", POOLS),
    Metric(TOTAL_SHAPES, "gauge", "Shapes that have a snapshot.", merge="max"),
    Metric(
        ACTIVE_SHAPES,
        "gauge",
        "Shapes that the node with most of them follows.",
        merge="max",
    ),
    Metric(CONNECTIONS, "gauge", "Open connections of clients."),
    Metric(
        READERS,
        "gauge",
        "Clients that wait for something.",
        "mode",
        MODES,
    ),
    Metric(DELIVERIES, "counter", "Times that a waiting client got something.", "mode", MODES),
    Metric(SNAPSHOTS, "counter", "Snapshots that were taken.", "outcome", OUTCOMES),
    Metric(SNAPSHOT_TIME, "histogram", "How long snapshots took.", bounds=SNAPSHOT_SECONDS),
    Metric(SNAPSHOT_ROWS, "counter", "Rows of snapshots."),
    Metric(
        LAG, "gauge", "How far the slowest node is behind the log, in bytes of WAL.", merge="max"
    ),
    Metric(HORIZON_AGE, "gauge", "Age of the oldest change that can be resumed from.", merge="max"),
    *stream_meter.METRICS,
)


class NodeMeter:
    """The numbers of the node `number` among `nodes`, all counted from 1."""

    def __init__(self, numbers: Numbers, number: int, nodes: int) -> None:
        self.region = region = numbers.region(number, METRICS)
        self.peers: list[Region] = [
            numbers.peer(other, METRICS) for other in range(1, nodes + 1) if other != number
        ]
        everybody = [number, *(other for other in range(1, nodes + 1) if other != number)]
        self._live = [numbers.unshown(other) for other in everybody]
        self._statuses = {status: region.number(REQUESTS, status) for status in STATUSES}
        self._kinds = {kind: region.number(REQUESTS_OF_KIND, kind) for kind in KINDS}
        self._body_bytes = region.number(BODY_BYTES)
        self._readers = {mode: region.number(READERS, mode) for mode in MODES}
        self._deliveries = {mode: region.number(DELIVERIES, mode) for mode in MODES}
        self._delivered: dict[Mode, int] = dict.fromkeys(MODES, 0)
        self._snapshot_time = region.histogram(SNAPSHOT_TIME)
        self.streams = stream_meter.StreamMeter(region)

    def admission(self) -> tuple[list[Number], list[list[Number]], list[Number]]:
        """Per pool: what this node has admitted, what the others have, what it has rejected."""
        return (
            [self.region.number(ADMITTED, pool) for pool in POOLS],
            [[peer.number(ADMITTED, pool) for pool in POOLS] for peer in self.peers],
            [self.region.number(REJECTED, pool) for pool in POOLS],
        )

    def live(self) -> tuple[memoryview[float], list[memoryview[float]]]:
        """The numbers of live requests: this node's own, all 0, and those of the others."""
        own, *others = self._live
        for slot in range(len(own)):
            own[slot] = 0.0
        return own, others

    def answered(self, exchange: Exchange) -> None:
        """A request was answered."""
        scope = exchange.scope
        if scope["path"] == "/v1/shape":
            (self._statuses.get(str(exchange.status)) or self._statuses["other"]).add()
            self._kinds[_kind(scope["method"], scope["query_string"])].add()
            self._body_bytes.add(exchange.sent)

    def connections(self, number: int) -> None:
        """So many are open."""
        self.region.number(CONNECTIONS).set(number)

    def snapshot_taken(self, done: bool, seconds: float, rows: int) -> None:
        """A snapshot was taken, or could not be."""
        self.region.number(SNAPSHOTS, "done" if done else "failed").add()
        self.region.number(SNAPSHOT_ROWS).add(rows)
        self._snapshot_time.observe(seconds)

    def waiting(self, mode: Mode, readers: int, delivered: int) -> None:
        """So many readers wait; `delivered` batches have gone out since the node's start."""
        self._readers[mode].set(readers)
        self._deliveries[mode].add(delivered - self._delivered[mode])
        self._delivered[mode] = delivered

    def standing(self, shapes: int, active: int, lag: int, horizon_age: float) -> None:
        """Where the node stands; `lag` in bytes of WAL, `horizon_age` in seconds."""
        self.region.number(TOTAL_SHAPES).set(shapes)
        self.region.number(ACTIVE_SHAPES).set(active)
        self.region.number(LAG).set(lag)
        self.region.number(HORIZON_AGE).set(horizon_age)


def _kind(method: str, query: bytes) -> str:
    """What was asked, as far as the URL tells."""
    if method == "POST" or b"subset__" in query:
        return "subset"
    if method not in ("GET", "HEAD"):
        return "other"
    if b"live_sse=true" in query:
        return "sse"
    if b"live=true" in query:
        return "long_poll"
    return "snapshot" if b"offset=-1" in query else "catch_up"
