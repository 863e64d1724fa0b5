"""What a node counts of its streams. All of it is there from the start, and costs a memory access."""

from __future__ import annotations

from typing import Final, Literal

from engine.metrics.numbers import Metric, Region
from shapes.streams.stream import Outcome

Webhook = Literal["done", "taken", "refused", "failed"]
"""`done`: the answer says that all is done; `taken`: the worker goes on by itself; `refused`: another
status than 2xx; `failed`: there was no answer."""

SubscriptionState = Literal["idle", "awake", "failed"]
"""`failed`: nobody could be told, and this is tried again; else `awake` while a worker is told or at
work."""

FAILED: Final = "failed"
"""Mostly answered with 503, because of Postgres, or because too many wait for it."""
ABANDONED: Final = "abandoned"
"""The client has gone before its answer came."""

_OUTCOMES: Final = {outcome: outcome.value.replace(" ", "_") for outcome in Outcome}
_APPEND_OUTCOMES: Final = (*_OUTCOMES.values(), FAILED, ABANDONED)
_WEBHOOKS: Final[tuple[Webhook, ...]] = ("done", "taken", "refused", "failed")
_STATES: Final[tuple[SubscriptionState, ...]] = ("idle", "awake", "failed")
_SOURCES: Final = ("memory", "table")

_SIZES: Final = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0)
_BATCH_SECONDS: Final = (
    *(0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0),
)
_WEBHOOK_SECONDS: Final = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)

APPENDS: Final = "pgtide_stream_appends_total"
MESSAGES: Final = "pgtide_stream_appended_messages_total"
BYTES: Final = "pgtide_stream_appended_bytes_total"
BATCH_SIZE: Final = "pgtide_stream_batch_appends"
BATCH_TIME: Final = "pgtide_stream_batch_seconds"
WAITING: Final = "pgtide_stream_appends_waiting"
FOLLOWED: Final = "pgtide_streams_followed"
READS: Final = "pgtide_stream_reads_total"
REMEMBERED: Final = "pgtide_stream_remembered_bytes"
SUBSCRIPTIONS: Final = "pgtide_subscriptions"
WEBHOOKS: Final = "pgtide_webhooks_total"
WEBHOOK_TIME: Final = "pgtide_webhook_seconds"
DROPPED: Final = "pgtide_stream_parts_dropped_total"

METRICS: Final = (
    Metric(
        APPENDS,
        "counter",
        "Appends to streams over HTTP, by what became of them.",
        "outcome",
        _APPEND_OUTCOMES,
    ),
    Metric(
        MESSAGES, "counter", "Messages that were appended over HTTP to streams that were there."
    ),
    Metric(BYTES, "counter", "Bytes of these messages."),
    Metric(
        BATCH_SIZE,
        "histogram",
        "How many appends there are in one transaction of group commit.",
        bounds=_SIZES,
    ),
    Metric(BATCH_TIME, "histogram", "How long such a transaction takes.", bounds=_BATCH_SECONDS),
    Metric(WAITING, "gauge", "Appends that are not answered yet."),
    Metric(FOLLOWED, "gauge", "Streams that the node with most of them follows.", merge="max"),
    Metric(
        READS,
        "counter",
        "How often messages were fetched for readers, from memory or from the table.",
        "source",
        _SOURCES,
    ),
    Metric(REMEMBERED, "gauge", "Bytes of messages that nodes remember for readers."),
    Metric(SUBSCRIPTIONS, "gauge", "Subscriptions, as last looked at.", "state", _STATES),
    Metric(WEBHOOKS, "counter", "Webhooks that were sent, by their answers.", "outcome", _WEBHOOKS),
    Metric(WEBHOOK_TIME, "histogram", "How long a webhook's answer took.", bounds=_WEBHOOK_SECONDS),
    Metric(
        DROPPED, "counter", "Parts of the messages' table dropped because of their age or size."
    ),
)


class StreamMeter:
    """Without a region it counts for nobody."""

    def __init__(self, region: Region | None = None) -> None:
        if region is None:
            size = sum(metric.size for metric in METRICS)
            region = Region(memoryview(bytearray(8 * size)).cast("d"), METRICS)
        self._appends = {
            outcome: region.number(APPENDS, label) for outcome, label in _OUTCOMES.items()
        }
        self._failed = region.number(APPENDS, FAILED)
        self._abandoned = region.number(APPENDS, ABANDONED)
        self._messages = region.number(MESSAGES)
        self._bytes = region.number(BYTES)
        self._batch_size = region.histogram(BATCH_SIZE)
        self._batch_time = region.histogram(BATCH_TIME)
        self._waiting = region.number(WAITING)
        self._followed = region.number(FOLLOWED)
        self._reads = [region.number(READS, source) for source in _SOURCES]
        self._read = [0 for _ in _SOURCES]
        self._remembered = region.number(REMEMBERED)
        self._subscriptions = {state: region.number(SUBSCRIPTIONS, state) for state in _STATES}
        self._webhooks = {outcome: region.number(WEBHOOKS, outcome) for outcome in _WEBHOOKS}
        self._webhook_time = region.histogram(WEBHOOK_TIME)
        self._dropped = region.number(DROPPED)

    # -- one by one --------------------------------------------------------------------------------

    def answered(self, outcome: Outcome) -> None:
        """An append was judged."""
        self._appends[outcome].add()

    def failed(self) -> None:
        self._failed.add()

    def abandoned(self) -> None:
        self._abandoned.add()

    def appended(self, messages: int, size: int) -> None:
        """So many messages, with so many bytes, were committed."""
        self._messages.add(messages)
        self._bytes.add(size)

    def batch(self, appends: int, seconds: float) -> None:
        """A transaction of group commit has ended."""
        self._batch_size.observe(appends)
        self._batch_time.observe(seconds)

    def webhook(self, outcome: Webhook, seconds: float) -> None:
        self._webhooks[outcome].add()
        self._webhook_time.observe(seconds)

    def subscriptions(self, idle: int, awake: int, failed: int) -> None:
        """So many there are now."""
        for state, number in zip(_STATES, (idle, awake, failed), strict=True):
            self._subscriptions[state].set(number)

    def part_dropped(self) -> None:
        self._dropped.add()

    # -- once a second -----------------------------------------------------------------------------

    def standing(
        self, *, waiting: int, followed: int, remembered: int, memory: int, table: int
    ) -> None:
        """Where the node stands. `memory` and `table`: how often messages came from there since its
        start."""
        self._waiting.set(waiting)
        self._followed.set(followed)
        self._remembered.set(remembered)
        read = [memory, table]
        for number, now, before in zip(self._reads, read, self._read, strict=True):
            number.add(now - before)
        self._read = read
