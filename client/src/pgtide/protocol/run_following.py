"""Following runs: one, those with tags, those of a batch."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any, Protocol
from urllib.parse import quote

from pgtide.errors import AnsweredError, InvalidRequestError, RunDeletedError
from pgtide.protocol.definition import LIVE_SECONDS, Definition, Following
from pgtide.protocol.exchange import Patience, attempt, call, json_object, text_field
from pgtide.protocol.follower import Follower
from pgtide.protocol.messages import Batch
from pgtide.protocol.packets import JSON, StoredPacket, unpack
from pgtide.protocol.rows import Row, RowSet
from pgtide.protocol.run import Run, run_of_row
from pgtide.protocol.steps import Plan, Request, Values, emit, relayed

# Without the first the server answers as very old clients need it.
HEADERS = (("x-trigger-electric-version", "1.0.0"), ("x-trigger-api-version", "2025-07-16"))

SKIPPED_NAMES = {
    "tags": "runTags",
    "finished_at": "completedAt",
    "delayed_until": "delayUntil",
    "duration_ms": "usageDurationMs",
}
FORBIDDEN_IN_TAGS = set(',\\"\x7f') | {chr(code) for code in range(32)}


class HasId(Protocol):
    """A run's or a batch's handle, or a run."""

    @property
    def id(self) -> str: ...


Identity = str | HasId


@dataclass(frozen=True, slots=True)
class RunSet:
    """The runs that are followed, as of one moment, and what made it differ from the one before.

    `runs` are in the order of their creation. `left` are those that were deleted, lost the tag,
    fell out of the window or of what the token may see, as they were last.
    """

    runs: tuple[Run, ...]
    entered: tuple[Run, ...] = ()
    changed: tuple[Run, ...] = ()
    left: tuple[Run, ...] = ()


def subscribe(
    run: Identity | None = None,
    *,
    tags: str | Sequence[str] | None = None,
    batch: Identity | None = None,
    since: str | timedelta | None = None,
    skip_columns: Sequence[str] = (),
    stop_on_completion: bool = True,
    access_token: str | None = None,
    max_retries: int | None = None,
    live_seconds: float = LIVE_SECONDS,
) -> Values[Run]:
    """Runs, first as they are and then whenever they have changed: one run by its id (or its handle),
    the runs with all of `tags` that were created within `since` ("24h", "2h30m"), or those of a batch.

    For one run it ends when the run has finished, unless `stop_on_completion` is False, and raises
    RunDeletedError if the run disappears; the others go on for ever. Connections that break are made
    again, and nothing is missed; 401, 403 and 404 raise at once.
    """
    definition = run_definition(run, tags, batch, since, skip_columns)
    following = Following(
        max_retries=max_retries,
        live_seconds=live_seconds,
        token=access_token,
        spare_token=token_of(run, batch),
    )
    if run is None:
        return Values(_changed_runs(definition, following))
    return Values(_one_run(identity_of(run), definition, following, stop_on_completion))


def follow(
    *,
    tags: str | Sequence[str] | None = None,
    batch: Identity | None = None,
    since: str | timedelta | None = None,
    skip_columns: Sequence[str] = (),
    access_token: str | None = None,
    max_retries: int | None = None,
    live_seconds: float = LIVE_SECONDS,
) -> Values[RunSet]:
    """The set of runs with all of `tags` created within `since`, or of a batch: all of them at first,
    and again whenever something has changed, with those that entered, changed and left."""
    definition = run_definition(None, tags, batch, since, skip_columns)
    following = Following(
        max_retries=max_retries,
        live_seconds=live_seconds,
        token=access_token,
        spare_token=token_of(batch),
    )
    return Values(_run_sets(definition, following))


def run_definition(
    run: Identity | None,
    tags: str | Sequence[str] | None,
    batch: Identity | None,
    since: str | timedelta | None,
    skip_columns: Sequence[str],
) -> Definition:
    """The endpoint and its parameters. Raises InvalidRequestError."""
    if sum(one is not None for one in (run, tags, batch)) > 1:
        raise InvalidRequestError("give one of these: a run, tags, or a batch")
    if since is not None and (run is not None or batch is not None):
        raise InvalidRequestError("since goes with tags")
    query: list[tuple[str, str]] = []
    if skip_columns:
        if isinstance(skip_columns, str):
            raise InvalidRequestError("skip_columns is a list of names")
        query.append(("skipColumns", ",".join(wire_name(name) for name in skip_columns)))
    if run is not None:
        path = f"/realtime/v1/runs/{quote(identity_of(run), safe='')}"
    elif batch is not None:
        path = f"/realtime/v1/batches/{quote(identity_of(batch), safe='')}"
    else:
        path = "/realtime/v1/runs"
        if tags is not None:
            query.append(("tags", ",".join(_checked_tags(tags))))
        if since is not None:
            query.append(("createdAt", window(since)))
    return Definition(path, tuple(sorted(query)), headers=HEADERS)


def wire_name(name: str) -> str:
    """`started_at` or `startedAt`: the name of a column."""
    if name in SKIPPED_NAMES:
        return SKIPPED_NAMES[name]
    first, *others = name.split("_")
    return first + "".join(word.capitalize() for word in others)


def window(since: str | timedelta) -> str:
    if isinstance(since, str):
        return since
    seconds = round(since.total_seconds())
    if seconds <= 0:
        raise InvalidRequestError("since is a time span: how far back, e.g. '24h'")
    return f"{seconds}s"


def identity_of(one: Identity) -> str:
    identity = one if isinstance(one, str) else one.id
    if not identity.strip():
        raise InvalidRequestError("the id is empty")
    return identity


def _checked_tags(tags: str | Sequence[str]) -> list[str]:
    found = [tags] if isinstance(tags, str) else list(tags)
    if not found:
        raise InvalidRequestError("tags is empty; leave it out for all runs")
    for tag in found:
        if not tag.strip() or FORBIDDEN_IN_TAGS & set(tag):
            raise InvalidRequestError(
                f"a tag to follow has no comma, quote, backslash or control character: {tag!r}"
            )
    return found


def token_of(*handles: Identity | None) -> str | None:
    """A handle's own token, for where the client has no credential."""
    for handle in handles:
        token = getattr(handle, "public_access_token", None)
        if isinstance(token, str):
            return token
    return None


class _Reader:
    """Makes runs of rows; what a run's packets keep elsewhere is fetched, once per text."""

    def __init__(self, definition: Definition, following: Following) -> None:
        self._follower = Follower(definition, following)
        self._following = following
        self._rows = RowSet()
        self._stored: dict[tuple[str, str], tuple[str, Any]] = {}
        self.ready = False

    def each_state(self, handle: Callable[[Mapping[str, Row | None]], Plan[bool]]) -> Plan[None]:
        """Hand over what each complete state changed, the first one in any case, until told to stop."""

        def apply(batch: Batch) -> Plan[bool]:
            changed = self._rows.apply(batch)
            if changed is None or not (changed or not self.ready):
                return False
            self.ready = True
            return (yield from handle(changed))

        yield from relayed(self._follower.plan(), apply)

    def run(self, row: Row) -> Plan[Run]:
        run = run_of_row(row)
        for name in ("payload", "output"):
            value = getattr(run, name)
            if isinstance(value, StoredPacket):
                value = yield from self._fetched(run.id, name, value)
                run = replace(run, **{name: value})
        return run

    def _fetched(self, identity: str, name: str, packet: StoredPacket) -> Plan[Any]:
        path, value = self._stored.get((identity, name), (None, None))
        if path != packet.path:
            value = yield from stored_value(identity, name, packet, self._following.token)
            self._stored[identity, name] = (packet.path, value)
        return value

    def forget(self, identity: str) -> None:
        self._stored.pop((identity, "payload"), None)
        self._stored.pop((identity, "output"), None)


def stored_value(identity: str, name: str, packet: StoredPacket, token: str | None) -> Plan[Any]:
    """What is kept outside of the row; the packet itself if it is not there (any more)."""
    try:
        path = f"/api/v1/runs/{quote(identity, safe='')}/packets/{name}"
        answer = yield from call("GET", path, token=token)
        return (yield from kept_value(text_field(json_object(answer), "presignedUrl")))
    except AnsweredError:
        return packet


def kept_value(address: str) -> Plan[Any]:
    """The value at an address that carries its own permission: no credential goes there."""
    kept = yield from attempt(Request("GET", address), Patience(), anonymous=True)
    kind = kept.headers.get("content-type", JSON).partition(";")[0].strip()
    return unpack(kept.body.decode(errors="replace"), kind)


def _one_run(identity: str, definition: Definition, following: Following, stop: bool) -> Plan[None]:
    reader = _Reader(definition, following)

    def handle(changed: Mapping[str, Row | None]) -> Plan[bool]:
        row = next((row for row in changed.values() if row is not None), None)
        if row is None:
            raise RunDeletedError(f"the run {identity} is not there any more", 404)
        run = yield from reader.run(row)
        yield from emit(run)
        return stop and run.is_finished

    yield from reader.each_state(handle)


def _changed_runs(definition: Definition, following: Following) -> Plan[None]:
    reader = _Reader(definition, following)
    ids: dict[str, str] = {}

    def handle(changed: Mapping[str, Row | None]) -> Plan[bool]:
        for key, row in changed.items():
            if row is None:
                reader.forget(ids.pop(key, ""))
                continue
            run = yield from reader.run(row)
            ids[key] = run.id
            yield from emit(run)
        return False

    yield from reader.each_state(handle)


def _run_sets(definition: Definition, following: Following) -> Plan[None]:
    reader = _Reader(definition, following)
    present: dict[str, Run] = {}

    def handle(changed: Mapping[str, Row | None]) -> Plan[bool]:
        entered: list[Run] = []
        altered: list[Run] = []
        left: list[Run] = []
        for key, row in changed.items():
            if row is None:
                run = present.pop(key)
                reader.forget(run.id)
                left.append(run)
                continue
            run = yield from reader.run(row)
            (altered if key in present else entered).append(run)
            present[key] = run
        runs = sorted(present.values(), key=lambda run: (run.created_at, run.id))
        yield from emit(RunSet(tuple(runs), tuple(entered), tuple(altered), tuple(left)))
        return False

    yield from reader.each_state(handle)
