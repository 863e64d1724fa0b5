"""What subscriptions may be asked to be."""

from __future__ import annotations

from typing import Any

import pytest

from shapes.streams.subscriptions.configuration import Configuration
from shapes.streams.subscriptions.refusals import Code, SubscriptionError

HOOK: dict[str, Any] = {
    "type": "webhook",
    "pattern": "events/*",
    "webhook": {"url": "https://hooks.example.com/"},
}
PULL: dict[str, Any] = {"type": "pull-wake", "streams": ["a/b"], "wake_stream": "wake"}


@pytest.mark.parametrize(
    "body",
    [
        {},
        {**HOOK, "type": "push"},
        {**HOOK, "webhook": None},
        {**HOOK, "webhook": {}},
        {**HOOK, "webhook": {"url": 1}},
        {"type": "webhook", "webhook": HOOK["webhook"]},
        {**HOOK, "pattern": ""},
        {**HOOK, "pattern": 1},
        {**HOOK, "pattern": "a//b"},
        {**HOOK, "pattern": "events-*"},
        {**HOOK, "pattern": "a/***"},
        {**HOOK, "streams": "a"},
        {**HOOK, "streams": [1]},
        {**HOOK, "streams": ["a/../b"]},
        {**HOOK, "streams": ["/"]},
        {**HOOK, "streams": ["a\0"]},
        {**HOOK, "streams": ["__ds/jwks.json"]},
        {**HOOK, "streams": ["x" * 1025]},
        {**HOOK, "streams": [f"s{n}" for n in range(1001)]},
        {**HOOK, "lease_ttl_ms": 999},
        {**HOOK, "lease_ttl_ms": 600_001},
        {**HOOK, "lease_ttl_ms": 1500.5},
        {**HOOK, "lease_ttl_ms": "1000"},
        {**HOOK, "lease_ttl_ms": True},
        {**HOOK, "lease_ttl_ms": None},
        {**HOOK, "description": 1},
        {**PULL, "wake_stream": None},
        {**PULL, "wake_stream": "/"},
        {**PULL, "wake_stream": "a/b"},
    ],
)
def test_what_is_refused(body: dict[str, Any]) -> None:
    with pytest.raises(SubscriptionError) as caught:
        Configuration.parse(body)
    assert caught.value.why is Code.INVALID_REQUEST


def test_defaults_and_spellings() -> None:
    one = Configuration.parse({**PULL, "streams": ["/b/", "a", "b"], "more": 1})
    assert (one.streams, one.wake_stream, one.lease_ms) == (("a", "b"), "wake", 30_000)
    assert (one.webhook_url, one.pattern) == (None, None)


def test_the_same_configuration_in_another_spelling_is_the_same() -> None:
    one = Configuration.parse({**PULL, "streams": ["a", "b", "/a"], "lease_ttl_ms": 30_000})
    same = Configuration.parse({**PULL, "streams": ["b/", "a"], "wake_stream": "/wake"})
    assert one.identity == same.identity
    others: list[dict[str, Any]] = [
        {**PULL, "streams": ["a"]},
        {**PULL, "streams": ["a", "b"], "pattern": "a"},
        {**PULL, "streams": ["a", "b"], "description": ""},
        {**PULL, "streams": ["a", "b"], "lease_ttl_ms": 1000},
        {**PULL, "streams": ["a", "b"], "wake_stream": "other"},
    ]
    identities = {Configuration.parse(body).identity for body in others}
    assert len(identities | {one.identity}) == len(others) + 1
