"""Events of Trigger.dev's streams."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator
from typing import Any

import pytest

from shapes.http.api.call import ApiError
from shapes.http.api.ingested_lines import LINE_BYTES, ingested_lines, message_of
from shapes.http.api.stream_reading import position_after, timeout_of
from shapes.http.api.stream_texts import StreamTextError, check_path
from shapes.streams.live.trigger_framing import Contents, TriggerFraming, control_headers
from shapes.streams.path import identity_of, segment_of
from shapes.streams.stream import Chunk

CREATED_US = 1_700_000_000_123_456


def records(frame: bytes) -> list[dict[str, Any]]:
    event, number, data, *rest = frame.split(b"\n")
    assert (event, rest) == (b"event: batch", [b"", b""])
    found = json.loads(data.removeprefix(b"data: "))["records"]
    assert number == b"id: %d" % found[-1]["seq_num"]
    return found


def framed(contents: Contents, *chunks: Chunk) -> list[dict[str, Any]]:
    frame, end = TriggerFraming(contents).encode(chunks, chunks[-1].end, closed=False)
    assert end == chunks[-1].end
    return records(frame)


def test_messages_of_several_appends_are_records() -> None:
    found = framed(
        Contents.JSON,
        Chunk(7, 1, CREATED_US, b'{"a": "\xc3\xbc"}'),
        Chunk(8, 3, CREATED_US, b'1 , "x,]" ,[2,{"$trigger.headers":[["a","b"]]}]'),
    )
    assert [one["seq_num"] for one in found] == [7, 8, 9, 10]
    assert {one["timestamp"] for one in found} == {CREATED_US // 1000}
    bodies = [json.loads(one["body"]) for one in found]
    last = [2, {"$trigger.headers": [["a", "b"]]}]
    assert [body["data"] for body in bodies] == [{"a": "ü"}, 1, "x,]", last]
    assert [body["id"] for body in bodies] == ["7", "8", "9", "10"]
    # Bytes as they were written.
    assert '{"data":{"a": "ü"},' in found[0]["body"]


def test_an_end_is_not_told() -> None:
    assert TriggerFraming(Contents.JSON).encode([], 5, closed=True) == (b"", 5)


def test_bytes_that_are_no_json_are_texts() -> None:
    found = framed(Contents.TEXT, Chunk(0, 1, 0, b'a\n"\xff'), Chunk(1, 1, 0, b"{}"))
    assert [json.loads(one["body"])["data"] for one in found] == ['a\n"\ufffd', "{}"]


def test_control_records_of_sessions() -> None:
    message = b'{"$trigger.headers": [["trigger-control", "turn-complete"]]}'
    (found,) = framed(Contents.SESSION, Chunk(3, 1, 0, message))
    assert (found["body"], found["headers"]) == ("", [["trigger-control", "turn-complete"]])
    (found,) = framed(Contents.JSON, Chunk(3, 1, 0, message))
    assert "headers" not in found


@pytest.mark.parametrize(
    "message",
    [
        b'"$trigger.headers"',
        b'{"$trigger.headers": []}',
        b'{"$trigger.headers": [["a"]]}',
        b'{"$trigger.headers": [["a", 1]]}',
        b'{"$trigger.headers": {"a": "b"}}',
        b'{"$trigger.headers": [["a", "b"]], "more": 1}',
        b'["$trigger.headers"]',
    ],
)
def test_what_is_no_control_record(message: bytes) -> None:
    assert control_headers(message) is None


def test_equal_framings_share_what_they_write() -> None:
    assert TriggerFraming(Contents.JSON) == TriggerFraming(Contents.JSON)
    assert hash(TriggerFraming(Contents.JSON)) == hash(TriggerFraming(Contents.JSON))
    assert TriggerFraming(Contents.JSON) != TriggerFraming(Contents.SESSION)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (b'{"a": [1,2]}\r', b'{"a": [1,2]}'),
        (b" [1,2] ", b"[1,2]"),
        (b"1e999", b"1e999"),
        (b"12345678901234567890123", b"12345678901234567890123"),
        (b'"\\ud800"', b'"\\ud800"'),
        (b"undefined", b'"undefined"'),
        (b"1,2", b'"1,2"'),
        (b"1],[2", b'"1],[2"'),
        (b"NaN", b'"NaN"'),
        (b"{", b'"{"'),
        (b'"\xff"', '"\\"\ufffd\\""'.encode()),
    ],
)
def test_lines_become_one_message_each(line: bytes, message: bytes) -> None:
    assert message_of(line) == message
    json.loads(message)


async def _collected(*pieces: bytes) -> list[list[bytes]]:
    async def incoming() -> AsyncGenerator[bytes]:
        for piece in pieces:
            yield piece

    return [lines async for lines in ingested_lines(incoming())]


async def test_lines_are_found_wherever_pieces_end() -> None:
    assert await _collected(b"a", b"b\nc\n\n \nd", b"e", b"", b"f\n", b"g") == [
        [b"ab", b"c"],
        [b"def"],
        [b"g"],
    ]
    assert await _collected() == await _collected(b"\n") == []
    many = await _collected(b"1\n" * 2500)
    assert [len(lines) for lines in many] == [1000, 1000, 500]


@pytest.mark.parametrize(
    "pieces",
    [
        (b"x" * (LINE_BYTES + 1),),
        (b"x" * LINE_BYTES, b"x"),
        (b"1\n", b"x" * LINE_BYTES, b"x\n"),
        (b"1\n" + b"x" * (LINE_BYTES + 1) + b"\n2",),
    ],
)
async def test_lines_that_are_too_long(pieces: tuple[bytes, ...]) -> None:
    with pytest.raises(ApiError) as refused:
        await _collected(*pieces)
    assert refused.value.status == 413


async def test_a_line_of_the_longest_kind() -> None:
    assert await _collected(b"x" * (LINE_BYTES - 1), b"x\n") == [[b"x" * LINE_BYTES]]


def test_where_readers_go_on() -> None:
    assert [position_after(text) for text in (None, "", " 7 ", "0", "17000-0")] == [
        *(None, None, 7, 0, None)
    ]
    for text in ("-1", "1.0", "x", "1" * 16, "٣", "1-"):
        with pytest.raises(StreamTextError):
            position_after(text)


def test_timeouts() -> None:
    assert [timeout_of(text) for text in (None, "1", "600")] == [None, 1.0, 600.0]
    for text in ("", "0", "601", "1.5", "-1", "٣"):
        with pytest.raises(StreamTextError):
            timeout_of(text)


def test_ids_are_one_segment() -> None:
    names = ["a", "a/b", "a%2Fb", "a%252Fb", "%"]
    assert len({segment_of(name) for name in names}) == len(names)
    assert not any("/" in segment_of(name) for name in names)
    assert [identity_of(segment_of(name)) for name in names] == names


def test_names_that_no_stream_can_have() -> None:
    check_path("runs/a/" + "x" * 1017)
    for path in ("x" * 1025, "ü" * 513, "a\n", "a\x7f"):
        with pytest.raises(StreamTextError):
            check_path(path)
