"""What may be done with what on each route: written down from the protocol, not from the code."""

from __future__ import annotations

from decided_route import KEYS, LIMITED_KEYS, SCOPES, Decided
from decided_scopes import (
    BATCH_DENIED,
    BATCH_GRANTED,
    BATCHES_DENIED,
    BATCHES_GRANTED,
    CANCEL_DENIED,
    CANCEL_GRANTED,
    COMPLETE_DENIED,
    ITEMS_DENIED,
    ITEMS_GRANTED,
    LIST_DENIED,
    NOTHING,
    READS_NO_RUN,
    READS_RUN,
    TRIGGER_DENIED,
    Scopes,
    beside,
    ones,
)
from decided_streams import STREAMS_DECIDED
from guarded_server import (
    BATCH,
    DELAYED,
    OTHER_TAG,
    OTHER_TASK,
    PACKET,
    RESET_KEY,
    RUN,
    TAG,
    TASK,
    WAIT_TOKEN,
)

NDJSON = {"content-type": "application/x-ndjson"}

_RUNS = "/api/v1/runs"
_TOKENS = "/api/v1/waitpoints/tokens"
_QUOTED = TASK.replace("/", "%2F")
_ITEM = f'{{"index":0,"task":"{TASK}","payload":"1"}}\n'

DECIDED: tuple[Decided, ...] = (
    # -- tokens
    Decided(
        *("POST", "/api/v1/auth/jwt/claims", "/api/v1/auth/jwt/claims", KEYS),
        foreign=(200, {"sub": "staging", "pub": True}),
    ),
    Decided(
        *("POST", "/api/v1/auth/public-tokens", "/api/v1/auth/public-tokens", LIMITED_KEYS),
        body={"scopes": ["read:runs:x"]},
        granted=ones("read:runs:x", "read:runs", "read:all", "*:all", "admin"),
        denied=(
            *beside("read", "runs", "x"),
            *ones("read:runs:y", "write:runs:x", "read:tags"),
            *NOTHING,
        ),
        foreign=(200, ...),
    ),
    Decided(
        *("POST", "/api/v1/auth/jwt", "/api/v1/auth/jwt", LIMITED_KEYS),
        body={"claims": {"scopes": ["read:runs:x"]}},
        granted=ones("read:runs:x", "admin"),
        denied=ones("read:runs:y", "read:runs:", "write:all"),
        foreign=(200, ...),
    ),
    # -- following
    Decided(
        *("GET", "/realtime/v1/runs/{id}", f"/realtime/v1/runs/{RUN}", SCOPES),
        granted=READS_RUN,
        denied=(*READS_NO_RUN, *NOTHING),
    ),
    Decided(
        *("GET", "/realtime/v1/runs", f"/realtime/v1/runs?tags={TAG}", SCOPES),
        granted=ones(f"read:tags:{TAG}", "read:tags", "read:runs", "read:all", "*:all", "admin"),
        denied=(*LIST_DENIED, *ones(f"read:tags:{OTHER_TAG}")),
        foreign=(200, ...),
    ),
    Decided(
        *("GET", "/realtime/v1/runs", f"/realtime/v1/runs?tags={TAG},{OTHER_TAG}", SCOPES),
        granted=ones(f"read:tags:{TAG}", f"read:tags:{OTHER_TAG}", "read:tags", "read:runs"),
        denied=(*LIST_DENIED, *ones(f"read:tags:{TAG},{OTHER_TAG}")),
        foreign=(200, ...),
    ),
    Decided(
        *("GET", "/realtime/v1/runs", "/realtime/v1/runs", SCOPES),
        granted=ones("read:runs", "read:tags", "read:all", "*:runs", "admin"),
        denied=(*LIST_DENIED, *ones(f"read:tags:{TAG}")),
        foreign=(200, ...),
    ),
    Decided(
        *("GET", "/realtime/v1/batches/{id}", f"/realtime/v1/batches/{BATCH}", SCOPES),
        granted=BATCH_GRANTED,
        denied=BATCH_DENIED,
    ),
    # -- looking
    Decided(
        *("GET", "/api/v3/runs/{id}", f"/api/v3/runs/{RUN}", SCOPES),
        granted=READS_RUN,
        denied=(*READS_NO_RUN, *NOTHING),
    ),
    Decided(
        *("GET", _RUNS, _RUNS, SCOPES),
        granted=ones("read:runs", "read:all", "*:all", "admin"),
        denied=(*LIST_DENIED, *ones(f"read:tags:{TAG}", "read:tags")),
        foreign=(200, ...),
    ),
    Decided(
        *("GET", _RUNS, f"{_RUNS}?filter%5BtaskIdentifier%5D={_QUOTED}", SCOPES),
        granted=ones(f"read:tasks:{TASK}", "read:tasks", "read:runs", "read:all", "admin"),
        denied=(
            *beside("read", "tasks", TASK),
            *ones(
                f"read:tasks:{OTHER_TASK}", "read:tasks:my", "read:tags", f"trigger:tasks:{TASK}"
            ),
            *NOTHING,
        ),
        foreign=(200, ...),
    ),
    Decided(
        *("GET", "/api/v2/batches/{id}", f"/api/v2/batches/{BATCH}", SCOPES),
        granted=BATCH_GRANTED,
        denied=BATCH_DENIED,
    ),
    Decided(
        *("GET", f"{_RUNS}/{{id}}/packets/{{field}}", f"{_RUNS}/{RUN}/packets/payload", SCOPES),
        granted=READS_RUN,
        denied=(*READS_NO_RUN, *NOTHING),
    ),
    # -- starting
    Decided(
        *("POST", "/api/v1/tasks/{id}/trigger", f"/api/v1/tasks/{_QUOTED}/trigger", SCOPES),
        body={"payload": "1"},
        granted=ones(f"trigger:tasks:{TASK}", "trigger:tasks", "trigger:all", "*:all", "admin"),
        denied=TRIGGER_DENIED,
        foreign=(200, ...),
    ),
    Decided(
        *("POST", "/api/v3/batches", "/api/v3/batches", SCOPES),
        status=202,
        body={"runCount": 2, "taskIdentifiers": [TASK, OTHER_TASK]},
        granted=BATCHES_GRANTED,
        denied=BATCHES_DENIED,
        foreign=(202, ...),
    ),
    Decided(
        *("POST", "/api/v3/batches", "/api/v3/batches", SCOPES),
        status=202,
        body={"runCount": 2},
        granted=ones("batchTrigger:tasks", "batchTrigger:batch", "batchTrigger:all", "admin"),
        denied=(
            *BATCHES_DENIED,
            (f"batchTrigger:tasks:{TASK}", f"batchTrigger:tasks:{OTHER_TASK}"),
        ),
        foreign=(202, ...),
    ),
    Decided(
        *("POST", "/api/v2/tasks/batch", "/api/v2/tasks/batch", SCOPES),
        status=202,
        body={"items": [{"task": TASK, "payload": "1"}, {"task": OTHER_TASK, "payload": "1"}]},
        granted=BATCHES_GRANTED,
        denied=BATCHES_DENIED,
        foreign=(202, ...),
    ),
    Decided(
        *("POST", "/api/v3/batches/{id}/items", f"/api/v3/batches/{BATCH}/items", SCOPES),
        body=_ITEM,
        headers=NDJSON,
        granted=ITEMS_GRANTED,
        denied=ITEMS_DENIED,
        foreign=(404, {"error": "Batch not found"}),
    ),
    Decided(
        *("POST", "/api/v3/batches/{id}/items", f"/api/v3/batches/{BATCH}/items", SCOPES),
        body="\n",
        headers=NDJSON,
        granted=ones(f"write:batch:{BATCH}", "write:batch", "write:all", "admin"),
        denied=(*ITEMS_DENIED, *ones("batchTrigger:tasks", f"batchTrigger:tasks:{TASK}")),
        foreign=(404, {"error": "Batch not found"}),
    ),
    # -- changing
    *(
        Decided(
            *("POST", f"/api/{version}/runs/{{id}}/cancel", f"/api/{version}/runs/{RUN}/cancel"),
            SCOPES,
            granted=CANCEL_GRANTED,
            denied=CANCEL_DENIED,
        )
        for version in ("v1", "v2")
    ),
    Decided(*("POST", f"{_RUNS}/{{id}}/tags", f"{_RUNS}/{RUN}/tags", KEYS), body={"tags": [TAG]}),
    Decided(
        *("POST", f"{_RUNS}/{{id}}/reschedule", f"{_RUNS}/{DELAYED}/reschedule", KEYS),
        body={"delay": "1h"},
    ),
    Decided(*("POST", f"{_RUNS}/{{id}}/replay", f"{_RUNS}/{RUN}/replay", KEYS), body={}),
    Decided(
        *("POST", "/api/v1/idempotencyKeys/{key}/reset"),
        *(f"/api/v1/idempotencyKeys/{RESET_KEY}/reset", KEYS),
        body={"taskIdentifier": TASK},
        before=f"update pgtide.runs set idempotency_key = '{RESET_KEY}' where id = '{RUN}'",
    ),
    Decided("GET", f"{_RUNS}/{{id}}/metadata", f"{_RUNS}/{RUN}/metadata", KEYS),
    Decided(
        *("PUT", f"{_RUNS}/{{id}}/metadata", f"{_RUNS}/{RUN}/metadata", KEYS),
        body={"metadata": {"a": 1}},
    ),
    # -- wait tokens
    Decided("POST", _TOKENS, _TOKENS, KEYS, body={}, foreign=(200, ...)),
    Decided("GET", _TOKENS, _TOKENS, KEYS, foreign=(200, ...)),
    Decided("GET", f"{_TOKENS}/{{id}}", f"{_TOKENS}/{WAIT_TOKEN}", KEYS),
    Decided(
        *("POST", f"{_TOKENS}/{{id}}/complete", f"{_TOKENS}/{WAIT_TOKEN}/complete", SCOPES),
        body={"data": 1},
        granted=ones(
            f"write:waitpoints:{WAIT_TOKEN}", "write:waitpoints", "write:all", "*:all", "admin"
        ),
        denied=COMPLETE_DENIED,
    ),
    # -- packets
    *(
        Decided(
            *(
                "PUT",
                f"/api/{version}/packets/{{path}}",
                f"/api/{version}/packets/a%2Fb.json",
                KEYS,
            ),
            foreign=(200, ...),
        )
        for version in ("v1", "v2")
    ),
    Decided(
        *("GET", "/api/v1/packets/{path}", f"/api/v1/packets/{PACKET.replace('/', '%2F')}", KEYS),
        foreign=(200, ...),
    ),
    *STREAMS_DECIDED,
)

SEALED = (
    ("POST", f"{_TOKENS}/{{id}}/callback/{{seal}}"),
    ("PUT", "/api/v1/packet-data/{environment}/{path}"),
    ("GET", "/api/v1/packet-data/{environment}/{path}"),
)
"""Those whose addresses are what opens them: no credential matters there."""

NO_USE: Scopes = ("read:waitpoints:none",)


def restricted_groups() -> list[Scopes]:
    """The scopes of all restricted keys. In the settings no scope may be empty."""
    groups: set[Scopes] = {NO_USE}
    for row in DECIDED:
        groups |= set(row.granted[:1])
        if row.access == LIMITED_KEYS:
            groups |= {*row.granted, *row.denied}
    return sorted(group for group in groups if all(group))
