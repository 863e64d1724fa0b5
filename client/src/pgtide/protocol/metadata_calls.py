"""Reading a run's metadata, and sending what was noted."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast
from urllib.parse import quote

from pgtide.errors import PgtideError, UnexpectedAnswerError
from pgtide.protocol.exchange import Patience, attempt, call, is_answered, json_object
from pgtide.protocol.operations import Pending
from pgtide.protocol.run_following import Identity
from pgtide.protocol.steps import Answer, Plan, Request

FLUSH_SECONDS = 1.0
FIRST_FLUSH_SECONDS = 0.05
EXIT_SECONDS = 30.0


def metadata_path(run: Identity) -> str:
    identity = run if isinstance(run, str) else run.id
    return f"/api/v1/runs/{quote(identity, safe='')}/metadata"


def get_metadata(run: Identity) -> Plan[dict[str, Any]]:
    """A run's metadata as it is now. Raises NotFoundError."""
    answer = yield from call("GET", metadata_path(run))
    return _metadata(answer)


def replace_metadata(run: Identity, values: Mapping[str, object]) -> Plan[dict[str, Any]]:
    """Replace the whole of a run's metadata at once."""
    body = {"metadata": dict(values)}
    answer = yield from call("PUT", metadata_path(run), body=body)
    return _metadata(answer)


def flush_metadata(path: str, pending: Pending, patience: Patience) -> Plan[dict[str, Any] | None]:
    """Deliver what is noted now; the metadata that it leads to, None if there was nothing.

    What the server refuses for good is dropped, and the refusal raised; what could not be
    delivered stays for the next flush.
    """
    latest: dict[str, Any] | None = None
    # Twice: what was not delivered the last time goes first, as it was.
    for _ in range(2):
        delivery = pending.next_delivery()
        if delivery is None:
            break
        headers = (
            ("content-type", "application/json"),
            ("x-trigger-request-idempotency-key", delivery.key),
        )
        try:
            request = Request("PUT", path, (), headers, delivery.body)
            answer = yield from attempt(request, patience)
        except PgtideError as error:
            if is_answered(error):
                pending.settled(delivery)
            raise
        pending.settled(delivery)
        latest = _metadata(answer)
    return latest


def _metadata(answer: Answer) -> dict[str, Any]:
    value = json_object(answer).get("metadata")
    if not isinstance(value, dict):
        raise UnexpectedAnswerError("the answer has no metadata. Is this pgtide's address?")
    return cast("dict[str, Any]", value)
