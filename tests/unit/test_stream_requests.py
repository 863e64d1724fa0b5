"""Requests of Durable Streams: what their headers and queries mean."""

from __future__ import annotations

import pytest

from shapes.http.api.routes import RouteTable, SecretKey, get, path_segments, put
from shapes.http.streams.append_request import AppendRequest, read_append
from shapes.http.streams.create_request import CreateRequest, check_path, read_creation
from shapes.http.streams.fields import StreamRequestError, fields_of
from shapes.http.streams.read_request import NOW, START, Live, ReadRequest, read_query
from shapes.streams.stream import Stamp, offset_of


def creation(**headers: str) -> CreateRequest:
    return read_creation(
        {name.replace("_", "-").encode(): value.encode() for name, value in headers.items()}
    )


@pytest.mark.parametrize("text", ["0", "1", "60", "10000000000"])
def test_a_time_to_live_is_a_plain_number(text: str) -> None:
    assert creation(stream_ttl=text).ttl == int(text)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "abc",
        "-1",
        "+60",
        "007",
        "60.5",
        "1e3",
        "1_0",
        " 1",
        "1\n",
        "٣",
        "10000000001",
        "9" * 400,
    ],
)
def test_nothing_else_is_a_time_to_live(text: str) -> None:
    with pytest.raises(StreamRequestError, match="Stream-TTL"):
        creation(stream_ttl=text)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("2030-01-31T12:00:00Z", 1896091200.0),
        ("2030-01-31t12:00:00z", 1896091200.0),
        ("2030-01-31T12:00:00.250+05:30", 1896071400.25),
    ],
)
def test_an_expiry_is_a_moment(text: str, seconds: float) -> None:
    asked = creation(stream_expires_at=text)
    assert (asked.expires_text, asked.expires_at) == (text, seconds)


@pytest.mark.parametrize(
    "text",
    [
        *("", "soon", "2030-01-31", "2030-01-31T12:00:00", "2030-13-31T12:00:00Z", "1893456000"),
        *(
            "2030-01-31T12:00:00Z\n",
            "2030-01-31T24:61:00Z",
            "20300131T120000Z",
            "0000-01-01T00:00:00Z",
        ),
    ],
)
def test_nothing_else_is_an_expiry(text: str) -> None:
    with pytest.raises(StreamRequestError, match="Stream-Expires-At"):
        creation(stream_expires_at=text)


def test_time_to_live_and_expiry_exclude_each_other() -> None:
    with pytest.raises(StreamRequestError, match="exclude"):
        creation(stream_ttl="1", stream_expires_at="2030-01-31T12:00:00Z")


def test_only_true_closes_however_it_is_spelled() -> None:
    for text, closed in (("true", True), ("TRUE", True), ("True", True)):
        assert creation(stream_closed=text).closed is closed
    for text in ("false", "1", "yes", "", "true,true"):
        assert not creation(stream_closed=text).closed


def test_a_content_type_that_is_none_counts_as_not_there() -> None:
    assert creation(content_type="Text/Plain; charset=x").content_type == "Text/Plain; charset=x"
    for text in (
        "",
        "text",
        "text/",
        "/plain",
        "text/plain\nx: y",
        "text/plain; \x01",
        "a/" + "b" * 300,
    ):
        assert creation(content_type=text).content_type is None


@pytest.mark.parametrize(
    ("value", "path"),
    [
        ("/v1/stream/a/b", "a/b"),
        ("/base/v1/stream/a/b", "a/b"),
        ("/a/b", "a/b"),
        ("a", "a"),
        ("/v1/stream/a%20b", "a b"),
        ("/v1/stream/%C3%A4", "ä"),
    ],
)
def test_the_source_of_a_fork_is_spelled_like_a_url_s_path(value: str, path: str) -> None:
    assert creation(stream_forked_from=value).source == path


@pytest.mark.parametrize(
    "value",
    ["", "/v1/stream/", "/v1/stream/a//b", "/a/../b", "/a%2fb", "/a%00", "/%ff", "/%2e%2e", "/ä"],
)
def test_other_spellings_are_no_source(value: str) -> None:
    with pytest.raises(StreamRequestError, match="Stream-Forked-From"):
        creation(stream_forked_from=value)


def test_where_to_fork() -> None:
    asked = creation(
        stream_forked_from="/v1/stream/a",
        stream_fork_offset=offset_of(7),
        stream_fork_sub_offset="3",
    )
    assert (asked.fork_position, asked.sub_offset) == (7, 3)
    for text in ("-1", "now", "7", "0_7", offset_of(7) + "\n", ""):
        with pytest.raises(StreamRequestError, match="Stream-Fork-Offset"):
            creation(stream_forked_from="/v1/stream/a", stream_fork_offset=text)
    for text in ("-1", "abc", "1.5", "05", "+1", ""):
        with pytest.raises(StreamRequestError, match="Stream-Fork-Sub-Offset"):
            creation(stream_forked_from="/v1/stream/a", stream_fork_sub_offset=text)
    with pytest.raises(StreamRequestError, match="without Stream-Forked-From"):
        creation(stream_fork_sub_offset="0")


def test_paths_that_no_stream_can_have() -> None:
    check_path("ä" * 512)
    for path in ("ä" * 513, "a\nb", "a\x7f", "\x01"):
        with pytest.raises(StreamRequestError):
            check_path(path)


# -- POST ------------------------------------------------------------------------------------------


def append(**headers: str) -> AppendRequest:
    return read_append(
        fields_of(
            [(name.replace("_", "-").encode(), text.encode()) for name, text in headers.items()]
        )
    )


def test_a_producer_s_stamp() -> None:
    asked = append(producer_id="p", producer_epoch="007", producer_seq=str(2**53 - 1))
    assert asked.stamp == Stamp("p", 7, 2**53 - 1)
    assert append().stamp is None


@pytest.mark.parametrize(
    "headers",
    [
        {"producer_id": "p"},
        {"producer_id": "p", "producer_epoch": "0"},
        {"producer_epoch": "0", "producer_seq": "0"},
        {"producer_id": "", "producer_epoch": "0", "producer_seq": "0"},
        {"producer_id": "p" * 513, "producer_epoch": "0", "producer_seq": "0"},
        *(
            {"producer_id": "p", "producer_epoch": "0", "producer_seq": text}
            for text in ("", "-1", "+1", "1.0", "1_0", "٣", " 1", "1\n", str(2**53), "9" * 5000)
        ),
    ],
)
def test_half_a_stamp_is_none(headers: dict[str, str]) -> None:
    with pytest.raises(StreamRequestError, match="Producer-"):
        append(**headers)


def test_a_header_that_comes_twice_has_both_values() -> None:
    assert fields_of([(b"stream-seq", b"1"), (b"stream-seq", b"2")]) == {b"stream-seq": b"1, 2"}


# -- GET -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        (b"", ReadRequest(START, Live.NO, -1)),
        (b"offset=-1", ReadRequest(START, Live.NO, -1)),
        (b"offset=%2D1", ReadRequest(START, Live.NO, -1)),
        (b"x=1&offset=now&live=sse&y", ReadRequest(NOW, Live.SSE, -1)),
        (
            b"cursor=12&live=long-poll&offset=" + offset_of(3).encode(),
            ReadRequest(3, Live.LONG_POLL, 12),
        ),
        (b"offset=-1&cursor=x", ReadRequest(START, Live.NO, -1)),
        (b"offset=9999999999999999_9999999999999999", ReadRequest(2**63 - 1, Live.NO, -1)),
    ],
)
def test_what_is_read(query: bytes, expected: ReadRequest) -> None:
    assert read_query(query) == expected


@pytest.mark.parametrize(
    "query",
    [
        *(b"offset=", b"offset", b"offset=-1&offset=-1", b"offset=-2", b"offset=0", b"offset=NOW"),
        *(
            b"offset=0,1",
            b"offset=a%20b",
            b"offset=..",
            b"offset=a/b",
            b"offset=0+1",
            b"offset=%00",
        ),
        b"offset=" + offset_of(3).encode() + b"%0A",
        b"offset=" + offset_of(3).encode() + b"%0D%0A",
        "offset=0000000000000000_000000000000000٣".encode(),
        *(b"live=long-poll", b"live=sse", b"offset=-1&live=true", b"offset=-1&live="[:-1] + b"=x"),
    ],
)
def test_what_is_no_place_to_read_from(query: bytes) -> None:
    with pytest.raises(StreamRequestError):
        read_query(query)


# -- routes ----------------------------------------------------------------------------------------


async def nothing(_: object) -> None: ...


def test_a_path_with_more_words_counts_before_one_that_takes_all() -> None:
    routes = [
        get("/v1/stream/{path*}", SecretKey(), nothing),
        put("/v1/stream/{path*}", SecretKey(), nothing),
    ]
    special = get("/v1/stream/__ds/{rest*}", SecretKey(), nothing)
    table = RouteTable([*routes, special])
    assert table.find(b"/v1/stream/a/b%20c") == ({"path": "a/b c"}, routes)
    assert table.find(b"/v1/stream/__ds/a/b") == ({"rest": "a/b"}, [special])
    assert table.find(b"/v1/stream/%5F%5Fds/a") == ({"rest": "a"}, [special])
    for path in (
        b"/v1/stream",
        b"/v1/stream/",
        b"/v1/stream/a//b",
        b"/v1/stream/a%2fb",
        b"/v1/stream/a/..",
    ):
        assert table.find(path)[1] == []


def test_segments_are_decoded_once() -> None:
    assert path_segments(b"/a/%2541") == ["a", "%41"]
    for path in (b"a", b"//a", b"/a/", b"/a/%2e", b"/a%00", b"/%ff", b"/\xc3"):
        assert path_segments(path) is None
