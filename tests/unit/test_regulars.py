"""Live requests are known again by all that decides about them, for as long as their grant stands."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from urllib.parse import parse_qsl

import pytest

from engine.configuration.settings import Settings
from shapes.access.authority import Authority
from shapes.access.leases import Leases
from shapes.definition import Definition
from shapes.http.live_limit import LiveLimit
from shapes.http.regulars import Audience, Regular, Regulars
from shapes.http.responder import Responder

KEY, OTHER = "tr_dev_0123456789abcdefghij", "tr_dev_9876543210abcdefghij"
VERSIONS = {"x-trigger-electric-version": "1.0.0-beta.1", "x-trigger-api-version": "2025-07-16"}
PATH = "/realtime/v1/runs"
QUERY = "createdAt=1h&cursor=7&handle=1-2&live=true&offset=3_4&tags=a"


class Clock:
    time = 1_800_000_000.0

    def __call__(self) -> float:
        return self.time


class Node:
    """What of a node has to do with regulars."""

    def __init__(self, folder: Path) -> None:
        self.file = folder / "pgtide.toml"
        self.file.write_text(f'[environments.default]\nsecret_keys = ["{OTHER}"]')
        self.clock = Clock()
        settings = Settings(secret_keys=(KEY,), config_file=self.file)
        self.authority = Authority(settings, self.clock)
        self.limit = LiveLimit(2)
        self.leases = Leases(self.authority, self.clock)
        self.regulars = Regulars(self.authority, self.leases, self.limit)

    def token(self, seconds: float = 60) -> str:
        return self.authority.mint("default", ["read:tags:a"], seconds)

    def note(
        self,
        query: str,
        token: str,
        table: str = "runs",
        headers: Mapping[str, str] = VERSIONS,
    ) -> None:
        grant = self.authority.authenticate(f"Bearer {token}", public=True)
        audience = Audience(Definition(table), go_on, None, dated=len(headers) < 2)
        scope = {
            "raw_path": PATH.encode(),
            "query_string": query.encode(),
            "headers": sent(token, headers),
        }
        self.regulars.note(scope, dict(parse_qsl(query)), grant, audience)

    def known(
        self, query: str, token: str, headers: Mapping[str, str] = VERSIONS, path: str = PATH
    ) -> Regular | None:
        return self.regulars.recognise(f"{path}?{query}".encode(), sent(token, headers))


async def go_on(responder: Responder, regular: Regular) -> None:
    """Nothing is answered here."""


def sent(token: str, headers: Mapping[str, str]) -> list[tuple[bytes, bytes]]:
    everything = {**headers, "authorization": f"Bearer {token}"}
    return [(name.encode(), value.encode()) for name, value in everything.items()]


@pytest.fixture
def node(tmp_path: Path) -> Node:
    return Node(tmp_path)


def test_only_the_place_may_differ(node: Node) -> None:
    token = node.token()
    node.note(QUERY, token)
    found = node.known(QUERY, token)
    assert found is not None
    assert found.grant.expires_at == node.clock.time + 60
    elsewhere = "createdAt=1h&cursor=8&handle=5-6&live=true&offset=9_10&tags=a"
    assert node.known(elsewhere, token) is found
    for query in (
        QUERY.replace("tags=a", "tags=b"),
        QUERY.replace("1h", "2h"),
        f"{QUERY}&skipColumns=payload",
        QUERY.replace("tags=a", "tags=a&tags=b"),
        QUERY.replace("&live=true", ""),
        # No place, only spelled like a part of one.
        QUERY.replace("cursor=7", "xcursor=7"),
    ):
        assert node.known(query, token) is None, query
    assert node.known(QUERY, token, path="/realtime/v1/batches/a") is None
    assert node.known(QUERY, token, {}) is None
    for name in VERSIONS:
        assert node.known(QUERY, token, {name: "1"}) is None, name
    assert node.known(QUERY, node.token(61)) is None
    assert node.known(QUERY, "") is None


def test_those_who_mean_the_same_are_one_audience(node: Node) -> None:
    first, second, third = (node.token(60 + number) for number in range(3))
    node.note(QUERY, first)
    node.note(QUERY, second)
    node.note(QUERY, third, table="others")
    one, other, stranger = (node.known(QUERY, token) for token in (first, second, third))
    assert one is not None
    assert other is not None
    assert stranger is not None
    assert one.grant != other.grant
    assert one.audience is other.audience
    assert stranger.audience is not one.audience


def test_what_is_spelled_otherwise_goes_the_ordinary_way(node: Node) -> None:
    token = node.token()
    for query in (
        QUERY.replace("offset=", "%6fffset="),
        QUERY.replace("3_4", "3%5f4"),
        QUERY.replace("offset=3_4", "offset=1_1&o%66fset=3_4"),
    ):
        node.note(query, token)
        assert node.known(query, token) is None, query


def test_nobody_is_known_longer_than_the_grant_stands(node: Node) -> None:
    token = node.token(60)
    node.note(QUERY, token)
    node.note(QUERY, OTHER)
    node.clock.time += 59.5
    assert node.known(QUERY, token) is not None
    node.clock.time += 0.5
    assert node.known(QUERY, token) is None
    assert node.known(QUERY, OTHER) is not None
    node.file.write_text("")
    node.leases.sweep()
    assert node.known(QUERY, OTHER) is None


def test_who_comes_no_more_is_forgotten(node: Node) -> None:
    one, other = node.token(60), node.token(61)
    node.note(QUERY, one)
    node.note(QUERY, other)
    for _ in range(4):
        node.regulars.forget()
        assert node.known(QUERY, one) is not None
    assert len(node.regulars) == 1
    assert node.known(QUERY, other) is None


def test_who_waits_counts_and_leaves_with_the_grant(node: Node) -> None:
    token = node.token()
    node.note(QUERY, token)
    regular = node.known(QUERY, token)
    assert regular is not None
    ended: list[int] = []
    first = node.regulars.stay(regular, lambda: ended.append(1))
    second = node.regulars.stay(regular, lambda: ended.append(2))
    assert first is not None
    assert second is not None
    assert node.regulars.stay(regular, ended.clear) is None
    assert node.regulars.stay_in("default") is None
    first.release()
    first.release()
    third = node.regulars.stay(regular, lambda: ended.append(3))
    assert third is not None
    assert node.regulars.stay(regular, ended.clear) is None
    node.clock.time += 60
    node.leases.sweep()
    assert sorted(ended) == [2, 3]
