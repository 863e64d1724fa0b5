"""Starting runs, asking for them, cancelling them."""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any, cast
from urllib.parse import quote

from pgtide.errors import (
    AuthenticationError,
    InvalidRequestError,
    NotFoundError,
    PermissionDeniedError,
    UnexpectedAnswerError,
    WaitTimeoutError,
)
from pgtide.protocol.exchange import (
    Patience,
    attempt,
    call,
    dump,
    json_object,
    text_field,
)
from pgtide.protocol.packets import STORE, Packet, pack
from pgtide.protocol.run import Run, RunStatus, run_of_answer
from pgtide.protocol.run_following import Identity, kept_value
from pgtide.protocol.steps import Answer, Plan, Request, clock, pause

INLINE_BYTES = 128 * 1024
"""Larger payloads are kept outside of the run's row, which is written again with every update."""
BATCH_LIMIT = 1000
SEALING_ATTEMPTS = 5
HASH_LENGTH = 64

Tags = str | Sequence[str]
Delay = str | datetime | timedelta
Ttl = str | int | timedelta


@dataclass(frozen=True, slots=True)
class RunHandle:
    """A run that was started. `public_access_token` lets a browser follow this run."""

    id: str
    task: str
    public_access_token: str | None = field(default=None, repr=False)
    is_cached: bool = False
    """It had been started before, with the same idempotency key."""


@dataclass(frozen=True, slots=True)
class BatchHandle:
    """A batch that was started. `public_access_token` lets a browser follow its runs."""

    id: str
    run_count: int
    public_access_token: str | None = field(default=None, repr=False)
    is_cached: bool = False


@dataclass(frozen=True, slots=True)
class BatchItem:
    """One run of a batch; the fields are those of `runs.trigger`."""

    task: str
    payload: Any = None
    tags: Tags = ()
    metadata: Mapping[str, Any] | None = None
    idempotency_key: str | None = None
    idempotency_key_ttl: str | None = None
    delay: Delay | None = None
    ttl: Ttl | None = None


@dataclass(frozen=True, slots=True)
class Batch:
    """A batch, as the server knows it."""

    id: str
    status: str
    run_count: int
    runs: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class RunPage:
    """Some runs of a list. `next` and `previous` go into `after` and `before` of the next call."""

    runs: tuple[Run, ...]
    next: str | None = None
    previous: str | None = None


def trigger(
    task: str,
    payload: Any = None,
    *,
    tags: Tags = (),
    metadata: Mapping[str, Any] | None = None,
    idempotency_key: str | None = None,
    idempotency_key_ttl: str | None = None,
    delay: Delay | None = None,
    ttl: Ttl | None = None,
    access_token: str | None = None,
) -> Plan[RunHandle]:
    """Start a run of a task: a row that any worker may take.

    The same `idempotency_key` for the same task is the same run. `delay`: a span ("1h"), a timedelta
    or the time to begin at; `ttl`: how long it may wait to be taken. Large payloads are kept apart.
    """
    item = BatchItem(
        task, payload, tags, metadata, idempotency_key, idempotency_key_ttl, delay, ttl
    )
    path = f"/api/v1/tasks/{quote(_named(task), safe='')}/trigger"
    packet = yield from _stored(pack(payload), task, access_token)
    body = _item(item, packet)
    answer = yield from call("POST", path, body=body, token=access_token)
    known = json_object(answer)
    return RunHandle(text_field(known, "id"), task, _token(answer), bool(known.get("isCached")))


def batch_trigger(
    items: Sequence[BatchItem | tuple[str, Any]],
    *,
    idempotency_key: str | None = None,
    access_token: str | None = None,
) -> Plan[BatchHandle]:
    """Start many runs at once, of one task or of several: items, or pairs of task and payload."""
    listed = [item if isinstance(item, BatchItem) else BatchItem(*item) for item in items]
    if not 0 < len(listed) <= BATCH_LIMIT:
        raise InvalidRequestError(f"a batch has between 1 and {BATCH_LIMIT} items")
    body: dict[str, Any] = {
        "runCount": len(listed),
        "taskIdentifiers": sorted({_named(item.task) for item in listed}),
    }
    if idempotency_key is not None:
        body["idempotencyKey"] = _hashed(idempotency_key)
    lines = yield from _lines(listed, access_token)
    answer = yield from call("POST", "/api/v3/batches", body=body, token=access_token)
    known = json_object(answer)
    identity = text_field(known, "id")
    cached = bool(known.get("isCached"))
    if not cached:
        yield from _fill(identity, lines, access_token)
    return BatchHandle(identity, len(listed), _token(answer), cached)


def retrieve(run: Identity, *, access_token: str | None = None) -> Plan[Run]:
    """A run as it is now. Raises NotFoundError."""
    answer = yield from call("GET", f"/api/v3/runs/{_path(run)}", token=access_token)
    body = json_object(answer)
    found = run_of_answer(body)
    for name in ("payload", "output"):
        address = body.get(f"{name}PresignedUrl")
        if isinstance(address, str):
            found = replace(found, **{name: (yield from kept_value(address))})
    return found


def poll(run: Identity, *, interval: float = 1.0, timeout: float | None = None) -> Plan[Run]:
    """Wait until a run has finished by asking again and again; `subscribe` waits without asking.

    `timeout` in seconds; raises WaitTimeoutError after it.
    """
    began = yield from clock()
    while True:
        found = yield from retrieve(run)
        if found.is_finished:
            return found
        if timeout is not None and (yield from clock()) - began + interval > timeout:
            raise WaitTimeoutError(f"the run {found.id} has not finished in {timeout} seconds")
        yield from pause(interval)


def list_runs(
    *,
    limit: int = 20,
    after: str | None = None,
    before: str | None = None,
    status: RunStatus | str | Sequence[RunStatus | str] = (),
    task: str | Sequence[str] = (),
    tags: Tags = (),
    batch: str | None = None,
    since: str | None = None,
) -> Plan[RunPage]:
    """The latest runs, newest first, a page at a time."""
    query = [("page[size]", str(limit))]
    given = {
        "page[after]": after,
        "page[before]": before,
        "filter[status]": ",".join(str(one) for one in _several(status)),
        "filter[taskIdentifier]": ",".join(_several(task)),
        "filter[tag]": ",".join(_several(tags)),
        "filter[batch]": batch,
        "filter[createdAt][period]": since,
    }
    query += [(name, value) for name, value in given.items() if value]
    answer = yield from call("GET", "/api/v1/runs", query=tuple(query))
    body = json_object(answer)
    pages = cast("Mapping[str, Any]", body.get("pagination") or {})
    found = cast("list[Mapping[str, Any]]", body.get("data") or [])
    runs = tuple(run_of_answer(run) for run in found)
    return RunPage(runs, pages.get("next"), pages.get("previous"))


def cancel(run: Identity, *, access_token: str | None = None) -> Plan[None]:
    """Mark a run as cancelled; its worker has to look."""
    yield from call("POST", f"/api/v2/runs/{_path(run)}/cancel", token=access_token)


def add_tags(run: Identity, tags: Tags) -> Plan[None]:
    """Add tags to a run, ten at most in all."""
    yield from call("POST", f"/api/v1/runs/{_path(run)}/tags", body={"tags": _several(tags)})


def retrieve_batch(batch: Identity, *, access_token: str | None = None) -> Plan[Batch]:
    """A batch as it is now, with its runs' ids. Raises NotFoundError."""
    answer = yield from call("GET", f"/api/v2/batches/{_path(batch)}", token=access_token)
    body = json_object(answer)
    return Batch(
        text_field(body, "id"),
        text_field(body, "status"),
        int(body.get("runCount") or 0),
        tuple(body.get("runs") or ()),
    )


def _item(item: BatchItem, packet: Packet) -> dict[str, Any]:
    """The part of the body that triggers and batch items have in common."""
    options: dict[str, Any] = {"payloadType": packet.type}
    if packet.data is not None:
        options["payloadSize"] = packet.size
    tags = _several(item.tags)
    if tags:
        options["tags"] = tags
    if item.metadata is not None:
        options["metadata"] = dict(item.metadata)
    if item.idempotency_key is not None:
        options["idempotencyKey"] = _hashed(item.idempotency_key)
    if item.idempotency_key_ttl is not None:
        options["idempotencyKeyTTL"] = item.idempotency_key_ttl
    if item.delay is not None:
        options["delay"] = _delay(item.delay)
    if item.ttl is not None:
        options["ttl"] = _ttl(item.ttl)
    body: dict[str, Any] = {"options": options}
    if packet.data is not None:
        body["payload"] = packet.data
    return body


def _lines(items: list[BatchItem], token: str | None) -> Plan[bytes]:
    lines: list[bytes] = []
    for index, item in enumerate(items):
        packet = yield from _stored(pack(item.payload), item.task, token)
        lines.append(dump({"index": index, "task": item.task, **_item(item, packet)}))
    return b"\n".join([*lines, b""])


def _fill(identity: str, lines: bytes, token: str | None) -> Plan[None]:
    """Send the items until the server has them all; it knows those that it has by their index."""
    path = f"/api/v3/batches/{quote(identity, safe='')}/items"
    headers = (("content-type", "application/x-ndjson"),)
    for _ in range(SEALING_ATTEMPTS):
        request = Request("POST", path, (), headers, lines)
        answer = yield from attempt(request, Patience(), token=token)
        if json_object(answer).get("sealed"):
            return
        yield from pause(0.5)
    raise UnexpectedAnswerError(f"the batch {identity} does not take all of its items")


def _stored(packet: Packet, task: str, token: str | None) -> Plan[Packet]:
    """A large packet is put where the server keeps such; a small one stays as it is."""
    if packet.data is None or packet.size < INLINE_BYTES:
        return packet
    name = f"{quote(task, safe='')}/packet_{uuid.uuid4().hex}/payload.json"
    try:
        path = f"/api/v2/packets/{quote(name, safe='')}"
        answer = yield from call("PUT", path, token=token)
    except (NotFoundError, AuthenticationError, PermissionDeniedError):
        # There is no store, or it is not for browsers' tokens: the run itself takes it, up to 3 MB.
        return packet
    body = json_object(answer)
    address = text_field(body, "presignedUrl")
    headers = (("content-type", packet.type),)
    request = Request("PUT", address, (), headers, packet.data.encode())
    yield from attempt(request, Patience(), anonymous=True)
    return Packet(text_field(body, "storagePath"), STORE)


def _token(answer: Answer) -> str | None:
    return answer.headers.get("x-trigger-jwt")


def _path(one: Identity) -> str:
    identity = one if isinstance(one, str) else one.id
    if not identity.strip():
        raise InvalidRequestError("the id is empty")
    return quote(identity, safe="")


def _named(task: str) -> str:
    if not task.strip():
        raise InvalidRequestError("the task has no name")
    return task


def _several(values: str | Sequence[Any]) -> list[Any]:
    return [values] if isinstance(values, str) else list(values)


def _hashed(key: str) -> str:
    """As the JavaScript SDK sends keys, so that both mean the same run; a hash stays as it is."""
    if len(key) == HASH_LENGTH:
        return key
    return hashlib.sha256(key.encode()).hexdigest()


def _delay(delay: Delay) -> str:
    if isinstance(delay, str):
        return delay
    if isinstance(delay, timedelta):
        delay = datetime.now(UTC) + delay
    aware = delay if delay.tzinfo else delay.replace(tzinfo=UTC)
    return aware.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _ttl(ttl: Ttl) -> str | int:
    return round(ttl.total_seconds()) if isinstance(ttl, timedelta) else ttl
