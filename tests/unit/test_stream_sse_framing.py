"""Streams as server-sent events, read back as clients read them."""

from __future__ import annotations

import itertools
import json
import random
from base64 import b64decode
from dataclasses import replace

import pytest

from shapes.http.streams.cursors import EPOCH
from shapes.http.streams.sse_framing import HELD_BYTES, Payload, SseFraming, data_lines
from shapes.streams.stream import Chunk, StreamState, offset_of

NOW = EPOCH + 20 * 5000


def framing(payload: Payload, cursor: int = 5000) -> SseFraming:
    return SseFraming(payload, cursor, lambda: NOW)


def chunks(*data: bytes, position: int = 0, messages: int = 1) -> list[Chunk]:
    made: list[Chunk] = []
    for one in data:
        made.append(Chunk(position, messages, 0, one))
        position += messages
    return made


def events(frames: bytes) -> list[tuple[str, bytes]]:
    """By the standard: CRLF, CR and LF end lines, and one space after the colon does not count."""
    found: list[tuple[str, bytes]] = []
    kind, lines = "message", list[bytes]()
    for line in frames.replace(b"\r\n", b"\n").replace(b"\r", b"\n").split(b"\n"):
        name, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        if not line and lines:
            found.append((kind, b"\n".join(lines)))
            kind, lines = "message", []
        elif name == b"event":
            kind = value.decode()
        elif name == b"data":
            lines.append(value)
    assert frames.endswith(b"\n\n")
    return found


def test_one_control_event_follows_the_data() -> None:
    made, position = framing(Payload.TEXT).encode(chunks(b"a", b"b"), 2, False)
    assert made == (
        b"event: data\ndata:ab\n\nevent: control\n"
        b'data:{"streamNextOffset":"0000000000000000_0000000000000002","streamCursor":"5000",'
        b'"upToDate":true}\n\n'
    )
    assert position == 2


def test_what_the_control_event_says() -> None:
    def says(tail: int, closed: bool) -> dict[str, object]:
        made, _ = framing(Payload.TEXT).encode(chunks(b"a"), tail, closed)
        assert made.count(b"}") == 1
        return json.loads(events(made)[1][1])

    first = {"streamNextOffset": offset_of(1)}
    assert says(1, False) == first | {"streamCursor": "5000", "upToDate": True}
    assert says(2, False) == first | {"streamCursor": "5000"}
    assert says(1, True) == first | {"upToDate": True, "streamClosed": True}


def test_the_end_alone() -> None:
    made, position = framing(Payload.JSON).encode([], 3, True)
    [(kind, data)] = events(made)
    assert (kind, position) == ("control", 3)
    assert json.loads(data) == {
        "streamNextOffset": offset_of(3),
        "upToDate": True,
        "streamClosed": True,
    }


def test_a_cursor_stays_until_time_has_gone_beyond_it() -> None:
    for cursor, shown in ((4000, b'"5000"'), (6000, b'"6000"')):
        assert b'"streamCursor":' + shown in framing(Payload.TEXT, cursor).idle(1, False)


def test_equal_framings_share_what_they_write() -> None:
    assert framing(Payload.TEXT) == SseFraming(Payload.TEXT, 5000, lambda: 0.0)
    assert hash(framing(Payload.TEXT)) == hash(SseFraming(Payload.TEXT, 5000, lambda: 0.0))
    assert framing(Payload.TEXT) != framing(Payload.TEXT, 1)
    assert framing(Payload.TEXT) != framing(Payload.BASE64)


@pytest.mark.parametrize(
    "text",
    [
        *("a", " a", "  a", "\n", "\n\n", "a\n b\n  c", "\n ", " \n", "data: x", "event: control"),
        "\n\nevent: control\ndata: {}\n\n",
        *("metadata: x", "a\ndata: b", ": c", "id: 1"),
    ],
)
def test_texts_come_back_as_they_were(text: str) -> None:
    made, _ = framing(Payload.TEXT).encode(chunks(text.encode()), 1, False)
    kinds = [kind for kind, _ in events(made)]
    assert kinds == ["data", "control"]
    assert events(made)[0][1].decode() == text


@pytest.mark.parametrize("end", ["\r\n", "\r", "\n"])
def test_no_line_end_forges_an_event(end: str) -> None:
    text = f"a{end}{end}event: control{end}data: {{}}{end}{end}b"
    made, _ = framing(Payload.TEXT).encode(chunks(text.encode()), 1, False)
    [(_, data), (kind, _)] = events(made)
    assert data.decode() == text.replace(end, "\n")
    assert kind == "control"


def test_a_line_without_a_space_gets_none() -> None:
    assert data_lines(b"line1\nline2") == b"data:line1\ndata:line2"
    assert data_lines(b" line1\n line2") == b"data:  line1\ndata:  line2"


def test_json_is_one_array_whatever_the_appends_were() -> None:
    made, position = framing(Payload.JSON).encode(
        chunks(b'{"a": 1},\n  2', b"[3]", messages=2), 4, False
    )
    assert json.loads(events(made)[0][1]) == [{"a": 1}, 2, [3]]
    assert position == 4


def test_bytes_are_base64_by_event() -> None:
    data = bytes(range(256))
    made, _ = framing(Payload.BASE64).encode(chunks(data, data), 2, False)
    assert b64decode(events(made)[0][1], validate=True) == data + data


def test_half_a_character_waits_for_the_rest() -> None:
    text = framing(Payload.TEXT)
    euro = "€".encode()
    made, position = text.encode(chunks(b"a", b"b" + euro[:1]), 2, False)
    assert events(made)[0] == ("data", b"a")
    assert position == 1
    assert b"upToDate" in made
    made, position = text.encode(chunks(b"b" + euro[:1], euro[1:], position=1), 3, False)
    assert events(made)[0] == ("data", b"b" + euro)
    assert position == 3
    # Alone it is no data; the client learns where it is.
    made, position = text.encode(chunks(euro[:2]), 1, False)
    assert [kind for kind, _ in events(made)] == ["control"]
    assert position == 0
    # Nothing more will come.
    made, position = text.encode(chunks(euro[:2]), 1, True)
    assert events(made)[0] == ("data", euro[:2])
    assert position == 1


def test_a_text_that_is_none_is_not_held_back_for_ever() -> None:
    many = chunks(*[b"\x80" + b"x" * 1000 + b"\xe2" for _ in range(200)])
    made, position = framing(Payload.TEXT).encode(many, 200, False)
    assert position == 200
    assert len(made) > HELD_BYTES


def test_characters_cut_anywhere_arrive_whole() -> None:
    random.seed(5)
    letters = "aé€😀\n "
    for _ in range(300):
        text = "".join(random.choice(letters) for _ in range(random.randint(1, 30)))
        data = text.encode()
        cuts = sorted({0, len(data), *(random.randint(0, len(data)) for _ in range(6))})
        whole = chunks(*[data[a:b] for a, b in itertools.pairwise(cuts)])
        read, position = "", 0
        for tail in range(1, len(whole) + 1):
            made, reached = framing(Payload.TEXT).encode(
                whole[position:tail], tail, tail == len(whole)
            )
            read += "".join(part.decode() for kind, part in events(made) if kind == "data")
            assert position <= reached <= tail
            position = reached
        assert (read, position) == (text, len(whole))


def test_which_payload() -> None:
    stream = StreamState(7, "default", "a", "", 0, 0, 0, False, None, None, None)
    for content_type, payload in (
        ("application/json", Payload.JSON),
        ("Application/JSON; charset=utf-8", Payload.JSON),
        ("text/plain", Payload.TEXT),
        ("TEXT/html;x", Payload.TEXT),
        ("application/x-ndjson", Payload.BASE64),
        ("application/octet-stream", Payload.BASE64),
    ):
        assert Payload.of(replace(stream, content_type=content_type)) is payload
