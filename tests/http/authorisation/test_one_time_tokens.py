"""Tokens that may start something once, and keys that count no more."""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from access_tokens import encode, public_token, signed
from credentials import EXPIRED, INVALID, UNKNOWN, local, own
from guarded_server import KEY, RUN, TASK, Guarded, Reply, restricted_key

TRIGGER = "/api/v1/tasks/my%2Ftask/trigger"
BATCHES = "/api/v3/batches"
OTHER_TRIGGER = "/api/v1/tasks/other-task/trigger"
SCOPES = ("trigger:tasks", "batchTrigger:tasks")
NDJSON = {"content-type": "application/x-ndjson"}
FOLLOWS = {"x-trigger-electric-version": "1.0.0-beta.1"}
AT_ONCE = 8


def once(**claims: Any) -> str:
    """A new token each time."""
    return public_token(KEY, SCOPES, otu=True, jti=uuid4().hex, **claims)


def trigger(
    guarded: Guarded, token: str, path: str = TRIGGER, *, key: str | None = None, **options: Any
) -> Reply:
    headers = {} if key is None else {"x-trigger-request-idempotency-key": key}
    body = {"payload": "1", "options": options}
    return guarded.ask("POST", path, f"Bearer {token}", body, headers)


def trigger_alone(guarded: Guarded, token: str, *, key: str | None = None) -> Reply:
    """On a connection of its own."""
    with closing(Guarded(guarded.serving, guarded.database_url, guarded.sent)) as one:
        return trigger(one, token, key=key)


def used(task: str = TASK) -> tuple[int, dict[str, str]]:
    what = f"Cannot trigger {task} with a one-time use token as it has already been used."
    return 422, {"error": what}


def test_a_one_time_token_starts_one_run(guarded: Guarded) -> None:
    token = once()
    first = trigger(guarded, token)
    assert first.status == 200
    for path, task in ((TRIGGER, TASK), (OTHER_TRIGGER, "other-task")):
        again = trigger(guarded, token, path)
        assert (again.status, again.json) == used(task)
    again = guarded.ask("POST", BATCHES, f"Bearer {token}", {"runCount": 1})
    assert again.status == 422
    items = {"items": [{"task": TASK, "payload": "1"}]}
    assert guarded.ask("POST", "/api/v2/tasks/batch", f"Bearer {token}", items).status == 422
    # The token that came back is for that run, and cannot start another one.
    given = first.headers["x-trigger-jwt"]
    guarded.note(given)
    assert guarded.ask("GET", f"/api/v3/runs/{first.json['id']}", f"Bearer {given}").status == 200
    assert guarded.ask("GET", f"/api/v3/runs/{RUN}", f"Bearer {given}").status == 403
    assert trigger(guarded, given).status == 403


def test_a_token_that_is_not_for_one_time_starts_several(guarded: Guarded) -> None:
    for token in (local(*SCOPES), local(*SCOPES, otu=False)):
        assert len({trigger(guarded, token).json["id"] for _ in range(3)}) == 3


def test_of_requests_at_the_same_moment_one_is_served(guarded: Guarded) -> None:
    """On two nodes."""
    token = once()
    replies = at_once(lambda number: trigger_alone(guarded, token, key=f"{token[-8:]}-{number}"))
    assert sorted(reply.status for reply in replies) == [200] + [422] * (AT_ONCE - 1)
    batch = once()
    replies = at_once(
        lambda _: guarded.ask_alone("POST", BATCHES, f"Bearer {batch}", {"runCount": 1})
    )
    assert sorted(reply.status for reply in replies) == [202] + [422] * (AT_ONCE - 1)
    mixed = once()
    replies = at_once(
        lambda number: (
            trigger_alone(guarded, mixed)
            if number % 2
            else guarded.ask_alone("POST", BATCHES, f"Bearer {mixed}", {"runCount": 1})
        )
    )
    assert len([reply for reply in replies if reply.status != 422]) == 1


def test_the_same_request_again_gets_the_same_run(guarded: Guarded) -> None:
    """A client whose answer was lost asks again with both; before the token is looked at."""
    token, key = once(), uuid4().hex
    replies = at_once(lambda _: trigger_alone(guarded, token, key=key))
    assert {(reply.status, reply.json["id"]) for reply in replies} == {(200, replies[0].json["id"])}
    assert (trigger(guarded, token, key=uuid4().hex).status) == 422
    # Somebody else's request with the same key is another one.
    assert trigger(guarded, once(), key=key).json["id"] != replies[0].json["id"]
    assert trigger(guarded, KEY, key=key).json["id"] != replies[0].json["id"]


def test_another_spelling_of_a_one_time_token_is_the_same_or_none(guarded: Guarded) -> None:
    token = once()
    head, body, signature = token.split(".")
    assert trigger(guarded, token).status == 200
    last = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    same_bytes = signature[:-1] + last[last.index(signature[-1]) ^ 1]
    for text in (
        f"{head}.{body}.{same_bytes}",
        f"{head}.{body}.{signature}=",
        f"{head}.{body}=.{signature}",
        f"{head}.{body}.{signature} ",
        f" {token}",
        f"{token}\t",
    ):
        assert trigger(guarded, text).status in (400, 401, 422), text
    # Signed anew it is another token, which takes the key.
    claims = {"sub": "default", "pub": True, "scopes": ["trigger:tasks"], "otu": True}
    assert trigger(guarded, signed(claims, b"x")).status == 401
    assert encode(b"x") == "eA"


def test_a_used_token_still_reads(guarded: Guarded) -> None:
    """It is starting something that it can do once."""
    token = local("trigger:tasks", f"read:runs:{RUN}", otu=True, jti=uuid4().hex)
    assert trigger(guarded, token).status == 200
    assert trigger(guarded, token).status == 422
    assert guarded.ask("GET", f"/api/v3/runs/{RUN}", f"Bearer {token}").status == 200


def test_what_starts_nothing_uses_nothing_up(guarded: Guarded) -> None:
    key = uuid4().hex
    cached = trigger(guarded, KEY, idempotencyKey=key).json["id"]
    token = once()
    refused = trigger(guarded, token, tags=["x" * 500])
    assert refused.status in (400, 422)
    again = trigger(guarded, token, idempotencyKey=key)
    assert (again.status, again.json) == (200, {"id": cached, "isCached": True})
    assert trigger(guarded, token).status == 200
    assert trigger(guarded, token).status == 422


def test_a_one_time_token_fills_its_own_batch_only(guarded: Guarded) -> None:
    token = once()
    made = guarded.ask("POST", BATCHES, f"Bearer {token}", {"runCount": 1})
    assert made.status == 202
    other = guarded.ask("POST", BATCHES, f"Bearer {KEY}", {"runCount": 1}).json["id"]
    item = f'{{"index":0,"task":"{TASK}","payload":"1"}}\n'

    def fill(batch: str, credential: str) -> int:
        path = f"{BATCHES}/{batch}/items"
        return guarded.ask("POST", path, f"Bearer {credential}", item, NDJSON).status

    assert fill(other, token) == 422
    assert fill(made.json["id"], token) == 200
    # With the token that came back, a browser may fill this one.
    assert fill(made.json["id"], made.headers["x-trigger-jwt"]) == 200
    assert fill(other, made.headers["x-trigger-jwt"]) == 403
    assert trigger(guarded, token).status == 422


def test_a_killed_node_forgets_no_token(guarded: Guarded) -> None:
    token, other = once(), once(exp=time.time() + 1e9)
    assert trigger(guarded, token).status == 200
    assert trigger(guarded, other).status == 200
    guarded.serving.kill_node()
    guarded.close()
    replies = at_once(lambda number: trigger_alone(guarded, (token, other)[number % 2]))
    assert {reply.status for reply in replies} == {422}


def test_keys_that_are_taken_out_of_the_file_count_no_more(
    guarded: Guarded, settings_path: Path
) -> None:
    """On both nodes, within a second, and what hangs on them ends; the others go on."""
    content = settings_path.read_text()
    key, limited = "tr_dev_for-a-while-0123456789", restricted_key("for a while")
    digest = hashlib.sha256(limited.encode()).hexdigest()
    more = content.replace("secret_keys = [\n", f'secret_keys = [\n    "{key}",\n', 1)
    more = more.replace(
        "restricted_keys = [\n",
        f'restricted_keys = [\n    {{ sha256 = "{digest}", scopes = ["read:runs"] }},\n',
        1,
    )
    tokens = [key, limited, public_token(key, ["read:runs"])]
    path = f"/realtime/v1/runs/{RUN}"

    def statuses() -> set[tuple[int, str]]:
        """Of several connections, so that both nodes are asked."""
        found: set[tuple[int, str]] = set()
        for _ in range(6):
            for token in tokens:
                reply = guarded.ask_alone("GET", path, f"Bearer {token}")
                told = "" if reply.status == 200 else reply.json["error"]
                found.add((reply.status, told))
        return found

    try:
        settings_path.write_text(more)
        guarded.wait_for(lambda: statuses() == {(200, "")}, 60)
        begun = guarded.ask_alone("GET", path, f"Bearer {tokens[2]}", None, FOLLOWS)
        live = f"{path}?offset={begun.headers['electric-offset']}&live=true"
        live += f"&handle={begun.headers['electric-handle']}"

        def follow() -> None:
            while (
                guarded.ask_alone("GET", live, f"Bearer {tokens[2]}", None, FOLLOWS).status == 200
            ):
                pass

        following = threading.Thread(target=follow)
        following.start()
        settings_path.write_text(content)
        following.join(60)
        assert not following.is_alive()
        guarded.wait_for(lambda: statuses() == {(401, UNKNOWN), (401, INVALID)}, 60)
        assert guarded.ask_alone("GET", path, f"Bearer {KEY}").status == 200
    finally:
        settings_path.write_text(content)


def test_a_file_that_cannot_be_read_closes_nothing_and_opens_nothing(
    guarded: Guarded, settings_path: Path
) -> None:
    content = settings_path.read_text()
    path = f"/api/v3/runs/{RUN}"
    try:
        for broken in ("[environments", "[environments.default]\nsecret_keys = 5"):
            settings_path.write_text(broken)
            time.sleep(0.6)
            for _ in range(4):
                assert guarded.ask_alone("GET", path, f"Bearer {KEY}").status == 200
                assert guarded.ask_alone("GET", path, "Bearer nothing").status == 401
                assert guarded.ask_alone("GET", path).status == 401
    finally:
        settings_path.write_text(content)


@pytest.mark.parametrize("make", [local, own])
def test_a_poll_under_way_ends_with_its_token(guarded: Guarded, make: Callable[..., str]) -> None:
    seconds = 1.5
    expires = time.time() + seconds
    credential = f"Bearer {make(f'read:runs:{RUN}', exp=expires)}"
    path = f"/realtime/v1/runs/{RUN}"
    begun = guarded.ask("GET", path, credential, None, FOLLOWS)
    live = f"{path}?offset={begun.headers['electric-offset']}&live=true&cursor="
    live += f"&handle={begun.headers['electric-handle']}"
    while (reply := guarded.ask("GET", live, credential, None, FOLLOWS)).status == 200:
        assert time.time() < expires + 20
    assert (reply.status, reply.json) == (401, {"error": EXPIRED})
    assert time.time() < expires + 20


def at_once(ask: Callable[[int], Reply]) -> list[Reply]:
    """The replies to requests that begin at the same moment."""
    barrier = threading.Barrier(AT_ONCE)
    replies: list[Reply] = []

    def run(number: int) -> None:
        barrier.wait()
        replies.append(ask(number))

    threads = [threading.Thread(target=run, args=(number,)) for number in range(AT_ONCE)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert len(replies) == AT_ONCE
    return replies
