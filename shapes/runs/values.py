"""What a run's values look like to the clients, from the texts that Postgres prints. Pure.

The clients validate every row and give up on the first value that they do not expect, so whatever a
table may hold is brought into a form that they accept.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, cast

import orjson

JSON = "application/json"
_JSON_TYPES = frozenset((JSON, "application/super+json"))
PLAIN_TEXT = "text/plain"

_ON_THE_WIRE: Mapping[str, str] = {
    "QUEUED": "PENDING",
    "WAITING": "WAITING_TO_RESUME",
    "COMPLETED": "COMPLETED_SUCCESSFULLY",
    "FAILED": "COMPLETED_WITH_ERRORS",
}

_TIME = re.compile(
    r"(\d{4,6}-\d\d-\d\d)(?:[ T](\d\d:\d\d:\d\d(?:\.\d+)?))?([+-]\d\d(?::?\d\d)?(?::\d\d)?|Z)?( BC)?",
    re.ASCII,
)
_ENDS = {"infinity": "9999-12-31T23:59:59", "-infinity": "0001-01-01T00:00:00"}


def wire_status(status: str) -> str:
    """The word that clients translate into this status."""
    return _ON_THE_WIRE.get(status, status)


def time(text: str | None) -> str | None:
    """A time as UTC without a zone, which is how clients read it. `text` is a timestamptz, timestamp
    or date as Postgres prints it while its time zone is UTC."""
    if text is None:
        return None
    match = _TIME.fullmatch(text)
    if match is None or match[4]:
        return _ENDS.get(text, _ENDS["-infinity"] if text.endswith(" BC") else text)
    return f"{match[1]}T{match[2] or '00:00:00'}"


def later_time(text: str | None) -> str | None:
    """A time that need not be there; one that never comes is not there."""
    return None if text in _ENDS else time(text)


def number(text: str | None) -> str:
    """Numbers are never null."""
    return "0" if text is None else text


def truth(text: str | None) -> str:
    """Truth values are never null."""
    return "f" if text is None else text


def metadata(text: str | None) -> str | None:
    """A JSON object's text; None for what is none."""
    return text if text is not None and isinstance(_parsed(text), dict) else None


def packet_type(kind: str | None, data: str | None) -> str:
    """The type of a payload or an output: what is no JSON is not called so."""
    kind = kind or JSON
    broken = kind in _JSON_TYPES and data and _parsed(data) is _BROKEN
    return PLAIN_TEXT if broken else kind


_BROKEN = object()


def _parsed(text: str) -> object:
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError:
        return _BROKEN


# -- errors ----------------------------------------------------------------------------------------

_NEEDED: Mapping[str, tuple[str, ...]] = {
    "BUILT_IN_ERROR": ("name", "message", "stackTrace"),
    "CUSTOM_ERROR": ("raw",),
    "STRING_ERROR": ("raw",),
    "INTERNAL_ERROR": ("code",),
}
_OPTIONAL: Mapping[str, tuple[str, ...]] = {"INTERNAL_ERROR": ("message", "stackTrace")}

_CODES = frozenset(
    """
    COULD_NOT_FIND_EXECUTOR COULD_NOT_FIND_TASK COULD_NOT_IMPORT_TASK CONFIGURED_INCORRECTLY
    TASK_ALREADY_RUNNING TASK_EXECUTION_FAILED TASK_EXECUTION_ABORTED
    TASK_PROCESS_EXITED_WITH_NON_ZERO_CODE TASK_PROCESS_SIGKILL_TIMEOUT TASK_PROCESS_SIGSEGV
    TASK_PROCESS_SIGTERM TASK_PROCESS_OOM_KILLED TASK_PROCESS_MAYBE_OOM_KILLED TASK_RUN_CANCELLED
    TASK_INPUT_ERROR TASK_OUTPUT_ERROR TASK_MIDDLEWARE_ERROR HANDLE_ERROR_ERROR
    GRACEFUL_EXIT_TIMEOUT TASK_RUN_HEARTBEAT_TIMEOUT TASK_RUN_CRASHED TASK_RUN_UNCAUGHT_EXCEPTION
    MAX_DURATION_EXCEEDED DISK_SPACE_EXCEEDED POD_EVICTED POD_UNKNOWN_ERROR
    TASK_HAS_N0_EXECUTION_SNAPSHOT TASK_DEQUEUED_INVALID_STATE TASK_DEQUEUED_QUEUE_NOT_FOUND
    TASK_RUN_DEQUEUED_MAX_RETRIES TASK_RUN_STALLED_EXECUTING
    TASK_RUN_STALLED_EXECUTING_WITH_WAITPOINTS OUTDATED_SDK_VERSION TASK_DID_CONCURRENT_WAIT
    RECURSIVE_WAIT_DEADLOCK BATCH_ITEM_COULD_NOT_TRIGGER PAYLOAD_TOO_LARGE UNSPECIFIED_ERROR
    """.split()  # noqa: SIM905
)


def error(text: str | None) -> str | None:
    """An error in one of the forms that clients know; everything else as the text that it is."""
    if text is None:
        return None
    value = _parsed(text)
    if value is None:
        return None
    if isinstance(value, dict) and _is_error(cast("dict[str, Any]", value)):
        return text
    raw = value if isinstance(value, str) else text
    return orjson.dumps({"type": "STRING_ERROR", "raw": raw}).decode()


def _is_error(value: dict[str, Any]) -> bool:
    kind = value.get("type")
    if not isinstance(kind, str) or kind not in _NEEDED:
        return False
    if kind == "INTERNAL_ERROR" and value.get("code") not in _CODES:
        return False
    if kind == "BUILT_IN_ERROR" and not _are_causes(value.get("causes", [])):
        return False
    return _has_texts(value, _NEEDED[kind], _OPTIONAL.get(kind, ()))


def _are_causes(causes: object) -> bool:
    return isinstance(causes, list) and all(
        isinstance(cause, dict)
        and _has_texts(cast("dict[str, Any]", cause), ("message",), ("name", "stackTrace"))
        for cause in cast("list[object]", causes)
    )


def _has_texts(
    value: dict[str, Any], needed: tuple[str, ...], optional: tuple[str, ...] = ()
) -> bool:
    return all(isinstance(value.get(name), str) for name in needed) and all(
        isinstance(value[name], str) for name in optional if name in value
    )
