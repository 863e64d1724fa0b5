"""Readers with random grants, who keep all that they are sent."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from random import Random
from typing import Any

from access_tokens import SECRET_KEY, bearer, public_token
from grant_history import BATCHES, LEDGER, RUNS, TAGS, TASKS, Row
from http_connection import HttpConnection, HttpError

Message = dict[str, Any]

SKIPPABLE = ("payload", "output", "metadata", "ttl", "error", "runTags")
COLUMNS = {"runTags": "tags"}
"""The columns of fields that are called otherwise."""


@dataclass(frozen=True)
class Grant:
    """What a reader asks and with what, and which rows and columns it may see then.

    `columns` are those of the table that it may see. `path` is followed as a shape's log.
    """

    table: str
    path: str
    query: dict[str, str]
    token: str
    allows: Callable[[Row], bool]
    columns: frozenset[str]
    sse: bool = False
    expires_at: float | None = None
    about: str = ""


@dataclass
class GrantReader:
    """Follows a shape and keeps everything that it is sent, with when."""

    url: str
    grant: Grant
    messages: list[tuple[float, Message]] = field(default_factory=list[tuple[float, Message]])
    rows: dict[str, Message] = field(default_factory=dict[str, Message])
    status: int = 0
    ended_at: float | None = None
    served_at: float | None = None
    """When an answer that was no refusal last came to its end."""
    _offset: str = "-1"
    _handle: str | None = None
    _cursor: str = ""
    _live: bool = False

    async def run(self) -> None:
        """Until the server refuses, or until cancelled."""
        while self.ended_at is None:
            try:
                await self._converse()
            except (HttpError, OSError):
                # The connection's life is over.
                await asyncio.sleep(0.01)

    async def _converse(self) -> None:
        connection = await HttpConnection.open(self.url)
        try:
            while self.ended_at is None:
                await self._step(connection)
        finally:
            await connection.close()

    async def _step(self, connection: HttpConnection) -> None:
        grant = self.grant
        query = {**grant.query, "offset": self._offset, "cursor": self._cursor}
        if self._handle is not None and self._offset != "-1":
            query["handle"] = self._handle
        streams = grant.sse and self._live
        if self._live:
            query |= {"live": "true"} | ({"live_sse": "true"} if streams else {})
        headers = {**bearer(grant.token), "x-trigger-electric-version": "1"}
        response = await connection.get(grant.path, query, headers)
        self.status = response.status
        if response.status == 200 and "event-stream" in response.headers["content-type"]:
            await self._read_events(response)
            self.served_at = time.time()
            return
        body = await response.body()
        if response.status == 409:
            self._handle = response.headers.get("electric-handle")
            self._offset, self._live, self.rows = "-1", False, {}
        elif response.status == 200:
            self.served_at = time.time()
            self._take(json.loads(body))
            self._offset = response.headers["electric-offset"]
            self._handle = response.headers["electric-handle"]
            self._cursor = response.headers.get("electric-cursor", self._cursor)
            self._live = "electric-up-to-date" in response.headers
        elif response.status == 503 or (response.status in (403, 404) and self.served_at is None):
            # Perhaps it may, or the run is there, the next time.
            await asyncio.sleep(0.05)
        else:
            self.ended_at = time.time()

    async def _read_events(self, response: Any) -> None:
        buffer = b""
        async for piece in response.pieces():
            *events, buffer = (buffer + piece).split(b"\n\n")
            batch = [json.loads(one[6:]) for one in events if one.startswith(b"data: ")]
            self._take(batch)
            for message in batch:
                if message["headers"].get("control") == "up-to-date":
                    self._offset = f"{message['headers']['global_last_seen_lsn']}_0"

    def _take(self, messages: list[Message]) -> None:
        now = time.time()
        for message in messages:
            operation = message["headers"].get("operation")
            if operation is None:
                continue
            self.messages.append((now, message))
            key = message["key"]
            if operation == "delete":
                self.rows.pop(key, None)
            else:
                self.rows[key] = self.rows.get(key, {}) | message["value"]


# -- grants ----------------------------------------------------------------------------------------

_CONDITIONS: tuple[tuple[str, Callable[[Row], bool]], ...] = (
    ("owner = 'ann'", lambda row: row["owner"] == "ann"),
    ("owner <> 'ann'", lambda row: row["owner"] not in ("ann", None)),
    ("amount > 40", lambda row: (row["amount"] or 0) > 40),
    ("owner is null", lambda row: row["owner"] is None),
    ("team = 'x' and amount <= 50", lambda row: row["team"] == "x" and _up_to(row["amount"], 50)),
    ("owner in ('bob', 'eve')", lambda row: row["owner"] in ("bob", "eve")),
    ("team = 'y' or owner = 'ann'", lambda row: row["team"] == "y" or row["owner"] == "ann"),
    ("id % 2 = 0", lambda row: row["id"] % 2 == 0),
)


def _anything(_: Row) -> bool:
    return True


def _up_to(value: int | None, most: int) -> bool:
    return value is not None and value <= most


_LEDGER_COLUMNS = ("owner", "team", "amount", "note", "secret", "hidden")


def ledger_grant(random: Random, seconds: float | None) -> Grant:
    """A token for a part of the general table."""
    limit, allowed = random.choice(_CONDITIONS)
    asked, wanted = random.choice((("", _anything), *_CONDITIONS))
    entry: dict[str, Any] = {"table": random.choice((LEDGER, "public.ledger")), "where": limit}
    query = {"table": LEDGER}
    columns = frozenset(("id", *_LEDGER_COLUMNS))
    if random.random() < 0.6:
        # What is asked for must be granted: the filter's columns, too.
        columns = frozenset(
            ("id", *(name for name in _LEDGER_COLUMNS if name in asked or random.random() < 0.4))
        )
        entry["columns"] = sorted(columns)
        if random.random() < 0.3:
            query["columns"] = ",".join(sorted(columns))
    if asked:
        query["where"] = asked
    if random.random() < 0.5:
        query["replica"] = "full"
    token, expires_at = _token(random, [], seconds, shapes=[entry])
    return Grant(
        *(LEDGER, "/v1/shape", query, token),
        lambda row: allowed(row) and wanted(row),
        columns,
        sse=random.random() < 0.5,
        expires_at=expires_at,
        about=f"{entry} {query}",
    )


def runs_grant(random: Random, ids: Sequence[str], begin: float, seconds: float | None) -> Grant:
    """A token for a run, for runs with certain tags, or for a batch."""
    kind = random.choice(("run", "run", "tags", "tags", "batch"))
    scopes: list[str] = []
    query: dict[str, str] = {}
    if kind == "run":
        path, scopes, sees = _one_run(random, random.choice(ids))
    elif kind == "batch":
        batch = random.choice([one for one in BATCHES if one])
        path, scopes = f"/realtime/v1/batches/{batch}", [f"read:batch:{batch}"]
        sees = partial(_is_of_batch, batch)
    else:
        tags = random.sample(TAGS, random.choice((1, 1, 2)))
        path, scopes = "/realtime/v1/runs", [f"read:tags:{random.choice(tags)}"]
        query = {"tags": ",".join(tags), "createdAt": random.choice(("24h", "1h"))}
        sees = partial(_has_tags, frozenset(tags), begin)
    scopes += random.choice(([], ["read:runs:run_none"], ["write:runs", "trigger:tasks"]))
    skipped = random.sample(SKIPPABLE, random.choice((0, 0, 1, 3)))
    claims: dict[str, Any] = {}
    if skipped and random.random() < 0.5:
        claims["realtime"] = {"skipColumns": skipped}
        query["skipColumns"] = "status"
    elif skipped:
        query["skipColumns"] = ",".join(skipped)
    token, expires_at = _token(random, scopes, seconds, **claims)
    hidden = {COLUMNS.get(name, name) for name in skipped}
    everything = {"id", "task", "tags", "metadata", "payload", "output", "ttl", "error"}
    return Grant(
        *(RUNS, path, query, token),
        lambda row: row["environment_id"] == "default" and sees(row),
        frozenset(everything - hidden),
        expires_at=expires_at,
        about=f"{path} {query} {scopes} {claims}",
    )


def _is_of_batch(batch: str, row: Row) -> bool:
    return row["batch_id"] == batch


def _has_tags(tags: frozenset[str], begin: float, row: Row) -> bool:
    created_at = datetime.fromisoformat(row["created_at"]).timestamp()
    return tags <= set(row["tags"]) and created_at > begin - 1800


def _is_of_task(task: str, row: Row) -> bool:
    return row["task"] == task


def _has_tag(tag: str, row: Row) -> bool:
    return tag in row["tags"]


def _one_run(random: Random, run_id: str) -> tuple[str, list[str], Callable[[Row], bool]]:
    scopes: list[str] = []
    tests: list[Callable[[Row], bool]] = []
    for kind in random.sample(("id", "tag", "task", "batch"), random.choice((1, 1, 2))):
        match kind:
            case "id":
                scopes.append(f"read:runs:{run_id}")
                tests.append(_anything)
            case "tag":
                tag = random.choice(TAGS)
                scopes.append(f"read:tags:{tag}")
                tests.append(partial(_has_tag, tag))
            case "task":
                task = random.choice(TASKS)
                scopes.append(f"read:tasks:{task}")
                tests.append(partial(_is_of_task, task))
            case _:
                batch = random.choice([one for one in BATCHES if one])
                scopes.append(f"read:batch:{batch}")
                tests.append(partial(_is_of_batch, batch))
    return (
        f"/realtime/v1/runs/{run_id}",
        scopes,
        lambda row: row["id"] == run_id and any(test(row) for test in tests),
    )


def _token(
    random: Random, scopes: list[str], seconds: float | None, **claims: Any
) -> tuple[str, float | None]:
    """Some end while the history is made."""
    if seconds is None or random.random() < 0.7:
        return public_token(SECRET_KEY, scopes, seconds=900, **claims), None
    life = random.uniform(0.3, 1.0) * seconds
    return public_token(SECRET_KEY, scopes, seconds=life, **claims), time.time() + life
