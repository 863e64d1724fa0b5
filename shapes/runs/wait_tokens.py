"""Wait tokens: what workers wait for until somebody completes it, or until it times out."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

import orjson

from shapes.database import Database
from shapes.runs.durations import duration_of, written
from shapes.runs.new_run import MOST_KEY_CHARACTERS, InvalidRunError, tags_of
from shapes.runs.run_list import page_size
from shapes.runs.trigger_keys import hash_of

WAITING = "WAITING"
COMPLETED = "COMPLETED"
TIMED_OUT = "TIMED_OUT"
STATUSES = (WAITING, COMPLETED, TIMED_OUT)

PAGE = 50

_JSON = "application/json"
_TIMEOUT_CODE = "TRIGGER_WAITPOINT_TIMEOUT"
"""By which clients recognise that the output is the error of a timeout."""

_COLUMNS = (
    "t.id, pgtide.wait_token_status(t), t.output, t.output_type, t.tags,"
    " t.idempotency_key, t.idempotency_key_expires_at, t.timeout_at, t.created_at, t.completed_at"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class NewWaitToken:
    """Without `timeout_at` it waits for ever. `key_expires_at` counts only with a key."""

    timeout_at: datetime | None = None
    tags: tuple[str, ...] = ()
    idempotency_key: str | None = None
    key_expires_at: datetime | None = None

    @classmethod
    def parse(cls, body: Mapping[str, Any], now: datetime) -> NewWaitToken:
        """Read a request's body. Raises InvalidRunError."""
        key = body.get("idempotencyKey")
        if key is not None and (not isinstance(key, str) or "\0" in key):
            raise InvalidRunError("idempotencyKey must be a text", 400)
        if key and len(key) > MOST_KEY_CHARACTERS:
            raise InvalidRunError(
                f"idempotencyKey must be {MOST_KEY_CHARACTERS} characters or less", 400
            )
        life = body.get("idempotencyKeyTTL")
        return cls(
            timeout_at=_time(body.get("timeout"), now, "timeout"),
            tags=tags_of(body.get("tags")),
            idempotency_key=key or None,
            key_expires_at=_time(life, now, "idempotencyKeyTTL") if key else None,
        )


class WaitToken(NamedTuple):
    """A token as it is now, by the clock: a row of `_COLUMNS`."""

    id: str
    status: str
    output: str | None
    output_type: str
    tags: list[str]
    idempotency_key: str | None
    idempotency_key_expires_at: datetime | None
    timeout_at: datetime | None
    created_at: datetime
    completed_at: datetime | None

    def shown(self, url: str) -> dict[str, Any]:
        """As clients expect it, without what it does not have."""
        values = {
            "id": self.id,
            "url": url,
            "status": self.status,
            "tags": self.tags,
            "createdAt": _text(self.created_at),
            "completedAt": _text(self.completed_at),
            "timeoutAt": _text(self.timeout_at),
            "idempotencyKey": self.idempotency_key,
            "idempotencyKeyExpiresAt": _text(self.idempotency_key_expires_at),
        }
        return {name: value for name, value in values.items() if value is not None}

    def result(self) -> dict[str, Any]:
        """What came of it, as far as anything has."""
        if self.status == TIMED_OUT:
            message = f"Waitpoint timed out at {_text(self.timeout_at)}"
            error = orjson.dumps({"code": _TIMEOUT_CODE, "message": message}).decode()
            return {"output": error, "outputType": _JSON, "outputIsError": True}
        if self.output is None:
            return {}
        return {"output": self.output, "outputType": self.output_type, "outputIsError": False}


class TokenPage(NamedTuple):
    """`next` and `previous` are ids; None if there is nothing."""

    tokens: list[WaitToken]
    next: str | None
    previous: str | None


class WaitTokens:
    """The wait tokens of one environment at a time. Methods raise what `Database.work` raises."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def create(
        self, environment: str, new: NewWaitToken, request: str | None
    ) -> tuple[str, bool]:
        """The id of a new token, or of the one that holds the key already, and whether it is that.

        `request` is the same when a client repeats a request whose answer did not reach it.
        """
        async with self._database.work() as work:
            if new.idempotency_key is not None:
                await work.execute(
                    "update pgtide.wait_tokens set idempotency_key = null"
                    " where environment_id = $1 and idempotency_key = $2"
                    " and idempotency_key_expires_at <= now()",
                    *(environment, new.idempotency_key),
                )
            name = None
            if request is not None:
                name = "waitpoint_" + hash_of("wait token", environment, request).hex()[:32]
            made = await work.fetchval(
                "insert into pgtide.wait_tokens (id, environment_id, timeout_at, tags,"
                " idempotency_key, idempotency_key_expires_at) values (coalesce($1,"
                " 'waitpoint_' || replace(gen_random_uuid()::text, '-', '')), $2, $3, $4, $5, $6)"
                " on conflict do nothing returning id",
                *(name, environment, new.timeout_at, list(new.tags)),
                *(new.idempotency_key, new.key_expires_at),
            )
            if made is not None:
                return made, False
            found = await work.fetchval(
                "select id from pgtide.wait_tokens where environment_id = $1"
                " and (id = $2 or idempotency_key = $3) order by id = $2 desc limit 1",
                *(environment, name, new.idempotency_key),
            )
            return found, found != name

    async def find(self, environment: str, token_id: str) -> WaitToken | None:
        """The token as it is now."""
        async with self._database.work() as work:
            row = await work.fetchrow(
                f"select {_COLUMNS} from pgtide.wait_tokens as t"
                " where t.id = $1 and t.environment_id = $2",
                *(token_id, environment),
            )
        return None if row is None else WaitToken(*row)

    async def complete(
        self, environment: str, token_id: str, output: str | None, output_type: str = _JSON
    ) -> bool:
        """Complete a token that still waits; others stay as they are. False if there is none."""
        async with self._database.work() as work:
            completed = await work.fetchval(
                "update pgtide.wait_tokens as t set status = 'COMPLETED', output = $3,"
                " output_type = $4 where t.id = $1 and t.environment_id = $2"
                " and pgtide.wait_token_status(t) = 'WAITING' returning true",
                *(token_id, environment, output, output_type),
            )
            return completed or await work.fetchval(
                "select exists (select from pgtide.wait_tokens"
                " where id = $1 and environment_id = $2)",
                *(token_id, environment),
            )

    async def page(self, environment: str, query: Mapping[str, str]) -> TokenPage:
        """The latest tokens, page by page: `page[size]`, `page[after]` or `page[before]`, and filters
        as `filter[status]`. Raises InvalidRunError."""
        size = page_size(query.get("page[size]"), PAGE)
        after, before = query.get("page[after]"), query.get("page[before]")
        backwards = before is not None and after is None
        values: list[Any] = [environment]
        where = ["t.environment_id = $1", *_filters(query, values)]
        cursor = before if backwards else after
        if cursor is not None:
            values += _cursor_values(cursor)
            compare = ">" if backwards else "<"
            where.append(f"(t.created_at, t.id) {compare} (${len(values) - 1}, ${len(values)})")
        order = "asc" if backwards else "desc"
        async with self._database.work() as work:
            rows = await work.fetch(
                f"select {_COLUMNS} from pgtide.wait_tokens as t where {' and '.join(where)}"
                f" order by t.created_at {order}, t.id {order} limit {size + 1}",
                *values,
            )
        more, tokens = len(rows) > size, [WaitToken(*row) for row in rows[:size]]
        if backwards:
            tokens.reverse()
        following = tokens[-1] if tokens and (more or backwards) else None
        preceding = tokens[0] if tokens and (more if backwards else after is not None) else None
        return TokenPage(tokens, _cursor(following), _cursor(preceding))


def _filters(query: Mapping[str, str], values: list[Any]) -> list[str]:
    """Conditions; what they compare with is added to `values`. Raises InvalidRunError."""

    def place(value: object) -> str:
        values.append(value)
        return f"${len(values)}"

    found: list[str] = []
    if status := query.get("filter[status]"):
        wanted = status.split(",")
        if not set(wanted) <= set(STATUSES):
            raise InvalidRunError(f"filter[status] must be of {', '.join(STATUSES)}", 400)
        found.append(f"pgtide.wait_token_status(t) = any({place(wanted)}::text[])")
    if key := query.get("filter[idempotencyKey]"):
        found.append(f"t.idempotency_key = {place(key)}")
    if tags := query.get("filter[tags]"):
        found.append(f"t.tags && {place(tags.split(','))}::text[]")
    if period := query.get("filter[createdAt][period]"):
        length = duration_of(period)
        if length is None:
            raise InvalidRunError("filter[createdAt][period] must be a duration like 24h", 400)
        found.append(f"t.created_at >= now() - {place(length)}::interval")
    for name, compare in (("from", ">="), ("to", "<=")):
        if text := query.get(f"filter[createdAt][{name}]"):
            found.append(f"t.created_at {compare} {place(_moment(text, name))}")
    return found


def _time(value: object, now: datetime, name: str) -> datetime | None:
    """A duration from now, or a date. Raises InvalidRunError."""
    if value is None or value == "":
        return None
    if isinstance(value, str):
        duration = duration_of(value)
        if duration is not None:
            return now + duration
        try:
            date = datetime.fromisoformat(value)
        except ValueError:
            pass
        else:
            return date if date.tzinfo is not None else date.replace(tzinfo=UTC)
        value = written(value)
    raise InvalidRunError(f"Invalid {name} {value}: use a duration like 1h30m, or a date", 400)


def _moment(text: str, name: str) -> datetime:
    """Milliseconds since 1970, or a date. Raises InvalidRunError."""
    try:
        if text.isascii() and text.isdigit():
            return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=int(text))
        date = datetime.fromisoformat(text)
    except (ValueError, OverflowError) as error:
        raise InvalidRunError(f"filter[createdAt][{name}] must be a date", 400) from error
    return date if date.tzinfo is not None else date.replace(tzinfo=UTC)


def _cursor(token: WaitToken | None) -> str | None:
    if token is None:
        return None
    text = f"{token.created_at.isoformat()} {token.id}"
    return base64.urlsafe_b64encode(text.encode()).decode()


def _cursor_values(cursor: str) -> tuple[datetime, str]:
    try:
        created, _, token_id = base64.urlsafe_b64decode(cursor).decode().partition(" ")
        date = datetime.fromisoformat(created)
    except (binascii.Error, ValueError) as error:
        raise InvalidRunError(
            "page[after] and page[before] must be cursors of a page", 400
        ) from error
    return date if date.tzinfo is not None else date.replace(tzinfo=UTC), token_id


def _text(time: datetime | None) -> str | None:
    """As JavaScript writes dates."""
    if time is None:
        return None
    return time.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
