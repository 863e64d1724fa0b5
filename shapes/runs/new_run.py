"""A run that somebody wants to start: what a request says, checked. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, cast
from uuid import uuid4

import orjson

from engine.errors import PgtideError
from shapes.runs.durations import MOST_SECONDS, duration_of, written

MOST_TAGS = 10
MOST_TAG_CHARACTERS = 128
MOST_KEY_CHARACTERS = 2048
MOST_TASK_CHARACTERS = 1024
METADATA_BYTES = 256 << 10
KEY_LIFE = timedelta(days=30)
"""How long an idempotency key holds if the request does not say."""

_JSON = "application/json"
_STORE = "application/store"
_JSON_TYPES = (_JSON, "application/super+json")
TYPES = (*_JSON_TYPES, "text/plain", _STORE)
"""How a payload may be encoded."""


class InvalidRunError(PgtideError):
    """A request to start or to change a run that cannot be carried out as it is; answered with
    `status`."""

    code = "invalid_run"

    def __init__(self, message: str, status: int = 422) -> None:
        super().__init__(message)
        self.status = status


@dataclass(frozen=True, slots=True, kw_only=True)
class NewRun:
    """`payload` is text in the encoding that `payload_type` names. `idempotency_expires_at` counts only
    with a key. Without `delay_until` it may begin at once."""

    id: str
    task: str
    payload: str | None = None
    payload_type: str = _JSON
    tags: tuple[str, ...] = ()
    metadata: dict[str, Any] = field(default_factory=dict[str, Any])
    delay_until: datetime | None = None
    ttl: str | None = None
    test: bool = False
    parent_id: str | None = None
    waits: bool = False
    """Whether the parent waits for it."""
    batch_id: str | None = None
    idempotency_key: str | None = None
    idempotency_expires_at: datetime | None = None

    @property
    def trigger_function(self) -> str:
        return ("batchTrigger" if self.batch_id else "trigger") + "AndWait" * self.waits


def new_id(kind: str = "run") -> str:
    """Like the defaults of the tables."""
    return f"{kind}_{uuid4().hex}"


def new_run(
    task: str, body: Mapping[str, Any], now: datetime, batch_id: str | None = None
) -> NewRun:
    """Read a request: `{"payload": …, "options": {…}}`. Options that are not known are ignored.

    Raises InvalidRunError.
    """
    options = _options(body)
    kind = _text(options, "payloadType") or _JSON
    if kind not in TYPES:
        raise InvalidRunError(f"options.payloadType must be one of {', '.join(TYPES)}", 400)
    key = text_up_to(options, "idempotencyKey", MOST_KEY_CHARACTERS)
    return NewRun(
        id=new_id(),
        task=checked_task(task),
        payload=_payload(body.get("payload"), kind),
        payload_type=kind,
        tags=tags_of(options.get("tags")),
        metadata=metadata_of(options.get("metadata")),
        delay_until=delay_of(options.get("delay"), now),
        ttl=_ttl(options.get("ttl")),
        test=options.get("test") is True,
        parent_id=_text(options, "parentRunId"),
        waits=options.get("resumeParentOnCompletion") is True,
        batch_id=batch_id,
        idempotency_key=key,
        idempotency_expires_at=_key_expiry(options, now) if key else None,
    )


def tags_of(value: object) -> tuple[str, ...]:
    """One tag or a list of them, each once. Raises InvalidRunError."""
    if value is None:
        return ()
    given = cast("list[object]", value if isinstance(value, list) else [value])
    for tag in given:
        if not isinstance(tag, str) or not 1 <= len(tag) <= MOST_TAG_CHARACTERS or "\0" in tag:
            raise InvalidRunError(
                f"a tag must be a text of 1 to {MOST_TAG_CHARACTERS} characters", 400
            )
    tags = tuple(dict.fromkeys(cast("list[str]", given)))
    check_count(len(tags))
    return tags


def check_count(tags: int) -> None:
    """Raises InvalidRunError if a run cannot have so many tags."""
    if tags > MOST_TAGS:
        raise InvalidRunError(f"Runs can only have {MOST_TAGS} tags, you're trying to set {tags}.")


def delay_of(value: object, now: datetime) -> datetime | None:
    """When a run may begin, from a duration or a date. None for a time that has come already.

    Raises InvalidRunError.
    """
    if value is None:
        return None
    if not isinstance(value, str):
        raise InvalidRunError("options.delay must be a duration like 1h30m or a date", 400)
    duration = duration_of(value)
    if duration is not None:
        return now + duration if duration else None
    try:
        date = datetime.fromisoformat(value)
        # In UTC: a column without a time zone would lose another one's offset.
        date = date.replace(tzinfo=UTC) if date.tzinfo is None else date.astimezone(UTC)
    except (ValueError, OverflowError) as error:
        raise InvalidRunError(
            f"Invalid delay {written(value)}: use a duration like 1h30m, or an ISO 8601 date"
        ) from error
    return date if date > now else None


def metadata_of(value: object) -> dict[str, Any]:
    """A JSON object, or the text of one. Raises InvalidRunError."""
    if isinstance(value, str):
        try:
            value = orjson.loads(value) if value else None
        except orjson.JSONDecodeError as error:
            raise InvalidRunError("options.metadata is not valid JSON", 400) from error
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise InvalidRunError("options.metadata must be a JSON object", 400)
    metadata = cast("dict[str, Any]", value)
    if len(orjson.dumps(metadata)) > METADATA_BYTES:
        raise InvalidRunError(f"metadata may have {METADATA_BYTES >> 10} KiB at most", 413)
    return metadata


def checked_task(task: str) -> str:
    if not task or len(task) > MOST_TASK_CHARACTERS or "\0" in task:
        raise InvalidRunError(
            f"a task's name must have 1 to {MOST_TASK_CHARACTERS} characters", 400
        )
    return task


def text_up_to(values: Mapping[str, Any], name: str, most: int) -> str | None:
    """A text that need not be there. Raises InvalidRunError."""
    text = _text(values, name)
    if text is not None and len(text) > most:
        raise InvalidRunError(f"{name} must be {most} characters or less", 400)
    return text


def _options(body: Mapping[str, Any]) -> Mapping[str, Any]:
    options = body.get("options")
    if options is None:
        return {}
    if not isinstance(options, dict):
        raise InvalidRunError("options must be a JSON object", 400)
    return cast("dict[str, Any]", options)


def _text(values: Mapping[str, Any], name: str) -> str | None:
    value = values.get(name)
    if value is None or value == "":
        return None
    if not isinstance(value, str) or "\0" in value:
        raise InvalidRunError(f"{name} must be a text", 400)
    return value


def _payload(value: object, kind: str) -> str | None:
    """The text to store: what is given is serialised already, unless it is JSON itself."""
    if value is None or (value == "" and kind != "text/plain"):
        if kind == _STORE:
            raise InvalidRunError("payload must be the path of a stored packet", 400)
        return None
    if not isinstance(value, str):
        if kind not in _JSON_TYPES:
            raise InvalidRunError(f"a payload of the type {kind} must be a text", 400)
        return orjson.dumps(value).decode()
    if "\0" in value:
        raise InvalidRunError("a payload cannot contain a NUL character", 400)
    if kind not in _JSON_TYPES or _is_json(value):
        return value
    if kind == _JSON:
        return orjson.dumps(value).decode()  # A text that was not serialised.
    raise InvalidRunError(f"the payload is not valid {kind}", 400)


def _is_json(text: str) -> bool:
    try:
        orjson.loads(text)
    except orjson.JSONDecodeError:
        return False
    return True


def _ttl(value: object) -> str | None:
    """How long it may stay queued, as the table has it."""
    if value is None or value in (0, "", "0"):
        return None
    if isinstance(value, int) and not isinstance(value, bool) and 0 < value <= MOST_SECONDS:
        return f"{value}s"
    duration = duration_of(value) if isinstance(value, str) else None
    if duration is None:
        raise InvalidRunError(
            "options.ttl must be a number of seconds or a duration like 1h30m", 400
        )
    return cast("str", value) if duration else None


def _key_expiry(options: Mapping[str, Any], now: datetime) -> datetime:
    text = _text(options, "idempotencyKeyTTL")
    life = KEY_LIFE if text is None else duration_of(text)
    if life is None:
        raise InvalidRunError("idempotencyKeyTTL must be a duration like 60s, 10m, 24h or 30d", 400)
    return now + life
