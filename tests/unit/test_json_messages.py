"""Bodies of JSON streams: how many messages they are, and their bytes as they came."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shapes.streams.json_messages import parse_messages, split_messages

VALUES: st.SearchStrategy[Any] = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner),
    max_leaves=6,
)


@pytest.mark.parametrize(
    ("body", "joined", "messages"),
    [
        (b"[]", b"", 0),
        (b"\n[ ]\t", b"", 0),
        (b"{}", b"{}", 1),
        (b' "x" ', b'"x"', 1),
        (b"null", b"null", 1),
        (b"[[[1]]]", b"[[1]]", 1),
        (b"[[1,2],[3]]", b"[1,2],[3]", 2),
        (b'[ {"a": 1.0} , 12345678901234567890123 ]', b'{"a": 1.0} , 12345678901234567890123', 2),
        (b'{"a":1,"a":2}', b'{"a":1,"a":2}', 1),
        # Half an emoji, and a number beyond all doubles.
        (b'["\\ud83d", 1e400]', b'"\\ud83d", 1e400', 2),
    ],
)
def test_a_body_is_taken_apart_by_one_level(body: bytes, joined: bytes, messages: int) -> None:
    assert parse_messages(body) == (joined, messages)


@pytest.mark.parametrize(
    "body",
    [
        *(b"", b" ", b"[1,]", b"[1 2]", b"NaN", b"[-Infinity]", b"{'a':1}", b"1 2", b'"\xff"'),
        *(b'"\n"', b"\xef\xbb\xbf1", "1".encode("utf-16"), b"[" * 10**5, b"01", b"[\x0b1]"),
    ],
)
def test_what_is_no_json(body: bytes) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - of several kinds
        parse_messages(body)


@given(st.lists(VALUES, max_size=5), st.sampled_from([None, 0, 2]), st.booleans())
def test_messages_are_found_again(values: list[Any], indent: int | None, escaped: bool) -> None:
    # Halves of surrogate pairs cannot be written otherwise.
    body = json.dumps(values, indent=indent, ensure_ascii=True).encode()
    if not escaped:
        body = json.dumps(values, indent=indent, ensure_ascii=False).encode(errors="replace")
        values = json.loads(body)
    joined, count = parse_messages(body)
    assert count == len(values)
    if count:
        assert [json.loads(one) for one in split_messages(joined, count)] == values


def test_a_wrong_count_is_noticed() -> None:
    with pytest.raises(ValueError, match="2 messages where 4 should be"):
        split_messages(b'"a,b","c"', 4)
