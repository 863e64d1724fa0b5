"""Every rule by which a scope grants something, and by which one covers another."""

from __future__ import annotations

import pytest

from shapes.access.grant import Grant
from shapes.access.scopes import Resource, Scope, granted

RUN, OTHER_RUN, ANY_RUN = Resource("runs", "a"), Resource("runs", "b"), Resource("runs")
TAG = Resource("tags", "user:123")
TASK = Resource("tasks", "my/task")


@pytest.mark.parametrize(
    ("scope", "action", "resource", "expected"),
    [
        # 1. `admin` alone is everything; with a type it is an action like others.
        ("admin", "read", RUN, True),
        ("admin", "trigger", TASK, True),
        ("admin:runs", "read", RUN, False),
        ("admin:runs", "admin", RUN, True),
        ("Admin", "read", RUN, False),
        # 2. The action agrees, or is `*`.
        ("read:runs", "read", RUN, True),
        ("read:runs", "write", RUN, False),
        ("*:runs", "write", RUN, True),
        ("*:runs", "write", TAG, False),
        ("write:tasks", "trigger", TASK, False),
        ("trigger:tasks", "batchTrigger", TASK, False),
        # 3. The type `all` is any type.
        ("read:all", "read", RUN, True),
        ("read:all", "read", TAG, True),
        ("read:all", "write", RUN, False),
        ("*:all", "write", TASK, True),
        # 4. Types agree otherwise.
        ("read:tags", "read", RUN, False),
        ("read:run", "read", RUN, False),
        # 5. Without an id each one and the collection, with an id that one only.
        ("read:runs", "read", ANY_RUN, True),
        ("read:runs:a", "read", RUN, True),
        ("read:runs:a", "read", OTHER_RUN, False),
        ("read:runs:a", "read", ANY_RUN, False),
        # Only the first two colons separate.
        ("read:tags:user:123", "read", TAG, True),
        ("read:tags:user", "read", TAG, False),
        ("trigger:tasks:my/task", "trigger", TASK, True),
        # What is no permission.
        ("read", "read", RUN, False),
        ("*", "read", RUN, False),
        ("", "read", RUN, False),
        (":runs", "read", RUN, False),
        ("read:*", "read", RUN, False),
        ("read:runs:*", "read", RUN, False),
        # What a variable without a value leaves.
        ("read:runs:", "read", RUN, False),
        ("read:runs:", "read", ANY_RUN, False),
        ("read:runs:", "read", Resource("runs", ""), False),
        ("read::a", "read", RUN, False),
        ("read:", "read", Resource("", None), False),
        ("admin:", "read", RUN, False),
        ("admin::a", "read", RUN, False),
        ("read:all:", "read", RUN, False),
        ("read:all:a", "read", RUN, False),
    ],
)
def test_a_scope_grants(scope: str, action: str, resource: Resource, expected: bool) -> None:
    assert Scope.parse(scope).grants(action, resource) is expected
    assert granted([Scope.parse("read:batch:x"), Scope.parse(scope)], action, resource) is expected


@pytest.mark.parametrize(
    "text", ["admin", "read:runs", "read:tags:user:1:2", "*:all", "read:runs:", "admin:"]
)
def test_a_scope_is_written_as_it_was_read(text: str) -> None:
    assert str(Scope.parse(text)) == text


def test_one_of_several_resources_is_enough_and_none_never_is() -> None:
    grant = Grant("default", (Scope.parse("read:tags:user:123"),))
    assert grant.allows_any("read", [RUN, TAG])
    assert not grant.allows_any("read", [RUN])
    assert not grant.allows_any("read", [])
    assert not Grant("default", ()).allows_any("read", [RUN, TAG])


def test_each_of_several_resources_has_to_be_granted() -> None:
    tasks = [Resource("tasks", "a"), Resource("tasks", "b")]
    some = Grant("default", (Scope.parse("batchTrigger:tasks:a"),))
    both = Grant("default", (*(some.scopes or ()), Scope.parse("batchTrigger:tasks:b")))
    assert not some.allows_every("batchTrigger", tasks)
    assert both.allows_every("batchTrigger", tasks)
    assert not both.allows_every("batchTrigger", [])


def test_a_secret_key_may_do_everything() -> None:
    grant = Grant("default")
    assert grant.unlimited
    assert grant.allows_any("write", [])
    assert grant.allows_every("write", [])


@pytest.mark.parametrize(
    ("has", "wants", "expected"),
    [
        ("admin", "admin", True),
        ("admin", "*:all", True),
        ("*:all", "admin", False),
        ("read:all", "read:runs:a", True),
        ("read:all", "*:runs:a", False),
        ("read:runs", "read:runs:a", True),
        ("read:runs", "read:all", False),
        ("read:runs:a", "read:runs", False),
        ("read:runs:a", "read:runs:b", False),
        ("*:runs", "write:runs:a", True),
        ("read:runs", "*:runs", False),
        ("read:runs", "write:runs", False),
        ("read:runs:", "read:runs:b", False),
        ("read:runs:", "read:runs", False),
        ("admin:", "read:runs", False),
        # Tables are opened by scopes that name them only.
        ("admin", "read:shapes", False),
        ("*:all", "read:shapes:items", False),
        ("read:shapes", "read:shapes:items", True),
        ("*:shapes", "read:shapes", True),
        # A text that grants nothing may be asked for by anybody.
        ("read:runs", "nothing", True),
    ],
)
def test_a_scope_covers_what_grants_no_more(has: str, wants: str, expected: bool) -> None:
    assert Scope.parse(has).covers(Scope.parse(wants)) is expected
