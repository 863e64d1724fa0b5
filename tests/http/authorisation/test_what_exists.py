"""Who may not see something is not told either whether it is there."""

from __future__ import annotations

import re

from credentials import local, own
from guarded_server import BATCH, DELAYED, RUN, WAIT_TOKEN, Guarded


def test_who_may_not_does_not_learn_what_there_is(guarded: Guarded) -> None:
    """The same answer, to the byte, whether it exists or not."""
    nothing = [
        f"Bearer {local('read:tags:x', 'write:runs:x', 'batchTrigger:tasks:x')}",
        f"Bearer {own('read:runs:x', 'read:tasks:x', 'read:batch:x', 'write:waitpoints:x')}",
        f"Bearer {local()}",
        None,
        "Bearer garbage",
    ]
    item = '{"index":0,"task":"my/task"}\n'
    ndjson = {"content-type": "application/x-ndjson"}
    for method, there, body, headers in (
        ("GET", f"/realtime/v1/runs/{RUN}", None, None),
        ("GET", f"/realtime/v1/batches/{BATCH}", None, None),
        ("GET", f"/api/v3/runs/{RUN}", None, None),
        ("GET", f"/api/v2/batches/{BATCH}", None, None),
        ("GET", f"/api/v1/runs/{RUN}/packets/payload", None, None),
        ("GET", f"/api/v1/runs/{DELAYED}/packets/payload", None, None),
        ("POST", f"/api/v2/runs/{RUN}/cancel", {}, None),
        ("POST", f"/api/v1/runs/{RUN}/cancel", {}, None),
        ("POST", f"/api/v3/batches/{BATCH}/items", item, ndjson),
        ("POST", f"/api/v1/waitpoints/tokens/{WAIT_TOKEN}/complete", {}, None),
        ("GET", f"/api/v1/waitpoints/tokens/{WAIT_TOKEN}", None, None),
        ("GET", f"/api/v1/runs/{RUN}/metadata", None, None),
        ("POST", f"/api/v1/runs/{RUN}/tags", {"tags": "a"}, None),
    ):
        missing = re.sub(r"(run|batch|waitpoint)_\w+", r"\1_nothing", there)
        for credential in nothing:
            one = guarded.ask(method, there, credential, body, headers)
            two = guarded.ask(method, missing, credential, body, headers)
            assert one.status in (401, 403), (there, credential and credential[:20], one)
            assert (one.status, one.body) == (two.status, two.body), (there, one, two)
            # Nor by a header.
            differing = {name for name in one.headers if one.headers[name] != two.headers.get(name)}
            assert differing <= {"x-request-id", "date"}
    # Who may is told.
    for path, scope in (
        ("/realtime/v1/runs/run_nothing", "read:runs:run_nothing"),
        ("/realtime/v1/batches/batch_nothing", "read:batch:batch_nothing"),
        ("/api/v3/runs/run_nothing", "read:runs"),
        ("/api/v2/batches/batch_nothing", "read:batch"),
    ):
        reply = guarded.ask("GET", path, f"Bearer {local(scope)}")
        assert (reply.status, reply.body) == (404, b'{"error":"Not found"}')
