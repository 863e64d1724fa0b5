"""Patterns for streams, against what they mean, worked out the long way."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shapes.streams.subscriptions.glob import Glob

SEGMENTS = st.sampled_from(["a", "b", "ab", "%2A", "*x", "ä", "a.b", "a_b"])
PATTERNS = st.lists(st.one_of(SEGMENTS, st.sampled_from(["*", "**"])), min_size=1, max_size=6)
PATHS = st.lists(
    st.sampled_from(["a", "b", "ab", "*", "*x", "ä", "a.b", "axb"]), min_size=1, max_size=6
)


def means(pattern: list[str], path: list[str]) -> bool:
    """By the definition: `**` takes every number of segments there is."""
    if not pattern:
        return not path
    first, *rest = pattern
    if first == "**":
        return any(means(rest, path[taken:]) for taken in range(len(path) + 1))
    if not path:
        return False
    fits = first == "*" or first.replace("%2A", "*") == path[0]
    return fits and means(rest, path[1:])


@given(PATTERNS, PATHS)
def test_a_glob_matches_what_it_means(pattern: list[str], path: list[str]) -> None:
    assert Glob("/".join(pattern)).matches("/".join(path)) == means(pattern, path)


@pytest.mark.parametrize(
    ("pattern", "path", "expected"),
    [
        ("events/*", "events/a", True),
        ("events/*", "events", False),
        ("events/*", "events/a/b", False),
        ("events/**", "events", True),
        ("events/**", "events/a/b", True),
        ("**", "anything/at/all", True),
        ("**/tokens", "tokens", True),
        ("**/tokens", "runs/1/tokens", True),
        ("runs/*/tokens", "runs/1/tokens", True),
        ("a/%2a", "a/*", True),
        ("a/%2A", "a/b", False),
        ("a.b", "axb", False),
    ],
)
def test_examples(pattern: str, path: str, expected: bool) -> None:
    assert Glob(pattern).matches(path) == expected


def test_no_pattern_takes_long() -> None:
    """One that backtracks would try every way to share the segments out."""
    pattern = Glob("/".join(["**", "a"] * 100 + ["b"]))
    began = time.process_time()
    assert not pattern.matches("/".join(["a"] * 500))
    assert time.process_time() - began < 1
