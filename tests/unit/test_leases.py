"""Reads under way end when their grant does, and no other ones."""

from __future__ import annotations

import time
from contextlib import ExitStack
from pathlib import Path

import pytest

from engine.configuration.settings import Settings
from shapes.access.authority import Authority
from shapes.access.grant import Grant
from shapes.access.leases import Leases

KEY, OTHER = "tr_dev_0123456789abcdefghij", "tr_dev_9876543210abcdefghij"


class Clock:
    def __init__(self) -> None:
        self.time = float(int(time.time()))

    def __call__(self) -> float:
        return self.time


@pytest.fixture
def clock() -> Clock:
    return Clock()


def token(authority: Authority, seconds: float) -> Grant:
    minted = authority.mint("default", ["read:runs"], seconds)
    return authority.authenticate(f"Bearer {minted}", public=True)


def test_a_read_ends_when_its_token_expires(clock: Clock) -> None:
    authority = Authority(Settings(secret_keys=(KEY,)), clock)
    leases = Leases(authority, clock)
    ended: list[str] = []
    with ExitStack() as held:
        held.enter_context(leases.held(token(authority, 60), lambda: ended.append("short")))
        held.enter_context(leases.held(token(authority, 120), lambda: ended.append("long")))
        held.enter_context(leases.held(Grant("default"), lambda: ended.append("key")))
        held.enter_context(leases.held(None, lambda: ended.append("nobody")))
        clock.time += 59.9
        leases.sweep()
        assert ended == []
        clock.time += 0.1
        leases.sweep()
        leases.sweep()
        assert ended == ["short"]
        clock.time += 600
        leases.sweep()
        assert ended == ["short", "long"]
    assert len(leases) == 0


def test_a_read_that_is_over_is_forgotten(clock: Clock) -> None:
    authority = Authority(Settings(secret_keys=(KEY,)), clock)
    leases = Leases(authority, clock)
    ended: list[int] = []
    for number in range(100):
        with leases.held(token(authority, 60 + number), lambda: ended.append(1)):
            assert len(leases) == 1
    with pytest.raises(ZeroDivisionError), leases.held(token(authority, 60), ended.clear):
        _ = 1 / 0
    clock.time += 600
    leases.sweep()
    assert ended == []
    assert len(leases) == 0


def test_reads_end_whose_key_is_gone(clock: Clock, tmp_path: Path) -> None:
    path = tmp_path / "pgtide.toml"
    path.write_text(f'[environments.default]\nsecret_keys = ["{OTHER}"]')
    authority = Authority(Settings(secret_keys=(KEY,), config_file=path), clock)
    leases = Leases(authority, clock)
    ended: list[str] = []
    of_other = authority.authenticate(f"Bearer {OTHER}", public=False)
    with (
        leases.held(token(authority, 60), lambda: ended.append("token")),
        leases.held(of_other, lambda: ended.append("key")),
    ):
        leases.sweep()
        path.write_text("")
        leases.sweep()
        leases.sweep()
        assert ended == ["key"]
        assert len(leases) == 1


def test_an_end_may_end_others(clock: Clock) -> None:
    """A read that ends lets go of its lease, and that may be in the middle of a sweep."""
    authority = Authority(Settings(secret_keys=(KEY,)), clock)
    leases = Leases(authority, clock)
    ended: list[int] = []
    with ExitStack() as held:
        for number in range(10):
            lease = leases.held(token(authority, 60), lambda number=number: ended.append(number))
            held.enter_context(lease)
        held.enter_context(leases.held(token(authority, 60), held.close))
        clock.time += 61
        leases.sweep()
    assert sorted(ended) == list(range(10))
    assert len(leases) == 0
