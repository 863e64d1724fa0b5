"""Answers of Durable Streams: headers, cursors, entity tags, and what an append's outcome means."""

from __future__ import annotations

import gzip
from contextlib import ExitStack
from dataclasses import replace

import pytest

from shapes.http.streams.compression import gzipped, is_dense, wants_gzip
from shapes.http.streams.cursors import EPOCH, next_cursor
from shapes.http.streams.entity_tag import EntityTag, known_tag
from shapes.http.streams.fields import StreamRequestError
from shapes.http.streams.outcomes import answer_to
from shapes.http.streams.page_room import (
    FIRST_PAGE_BYTES,
    MOST_BYTES,
    PAGE_BYTES,
    ROOM_BYTES,
    SMALL_PAGE_BYTES,
    PageRoom,
)
from shapes.http.streams.stream_headers import cache_headers, content_type, place_headers
from shapes.streams.stream import Append, Appended, Outcome, Stamp, StreamState, offset_of

STREAM = StreamState(7, "default", "a", "text/plain", 0, 10, 100, False, None, None, None)
CLOSED_STREAM = replace(STREAM, closed=True)


# -- appends ---------------------------------------------------------------------------------------


def appending(stamp: Stamp | None = None, *, data: bool = True, close: bool = False) -> Append:
    parts = (b"x",) if data else ()
    return Append("default", "a", parts, (1,) * len(parts), "text/plain", close, stamp)


def answered(request: Append, done: Appended) -> tuple[int, dict[str, str]]:
    status, headers, text = answer_to(request, done)
    assert bool(text) == (status >= 400)
    return status, {name.decode(): value.decode() for name, value in headers}


STAMP = Stamp("p", 3, 5)


@pytest.mark.parametrize(
    ("request_", "done", "status", "headers"),
    [
        (appending(), Appended(Outcome.APPENDED, 9), 204, {}),
        (
            appending(close=True),
            Appended(Outcome.APPENDED, 9, True),
            204,
            {"stream-closed": "true"},
        ),
        (
            appending(STAMP),
            Appended(Outcome.APPENDED, 9, epoch=3, last=5),
            200,
            {"producer-epoch": "3", "producer-seq": "5"},
        ),
        (
            appending(STAMP, close=True),
            Appended(Outcome.APPENDED, 9, True, 3, 5),
            200,
            {"producer-epoch": "3", "producer-seq": "5", "stream-closed": "true"},
        ),
        (
            appending(STAMP, data=False, close=True),
            Appended(Outcome.APPENDED, 9, True, 3, 5),
            204,
            {"producer-epoch": "3", "producer-seq": "5", "stream-closed": "true"},
        ),
        # The highest that was accepted, not the one that came.
        (
            appending(STAMP),
            Appended(Outcome.DUPLICATE, 9, False, 3, 8),
            204,
            {"producer-epoch": "3", "producer-seq": "8"},
        ),
        (
            appending(data=False, close=True),
            Appended(Outcome.DUPLICATE, 9, True),
            204,
            {"stream-closed": "true"},
        ),
    ],
)
def test_what_was_appended(
    request_: Append, done: Appended, status: int, headers: dict[str, str]
) -> None:
    assert answered(request_, done) == (
        status,
        {"stream-next-offset": offset_of(9)} | headers,
    )


@pytest.mark.parametrize(
    ("outcome", "status", "headers"),
    [
        (Outcome.MISSING, 404, {}),
        (Outcome.GONE, 410, {}),
        (Outcome.STALE_EPOCH, 403, {"producer-epoch": "4"}),
        (Outcome.EPOCH_WITHOUT_START, 400, {}),
        (Outcome.TOO_LARGE, 413, {}),
        (Outcome.GAP, 409, {"producer-expected-seq": "3", "producer-received-seq": "5"}),
        (Outcome.OTHER_TYPE, 409, {"producer-expected-seq": "5", "producer-received-seq": "5"}),
        (Outcome.OLD_SEQUENCE, 409, {"producer-expected-seq": "5", "producer-received-seq": "5"}),
        (
            Outcome.CLOSED,
            409,
            {
                "stream-closed": "true",
                "stream-next-offset": offset_of(9),
                "producer-expected-seq": "5",
                "producer-received-seq": "5",
            },
        ),
    ],
)
def test_what_a_producer_was_refused(
    outcome: Outcome, status: int, headers: dict[str, str]
) -> None:
    done = Appended(outcome, 9, epoch=4, last=2)
    assert answered(appending(STAMP), done) == (status, headers)


def test_every_outcome_has_an_answer() -> None:
    for outcome in Outcome:
        status, _ = answered(appending(), Appended(outcome, 9, last=0))
        assert (status == 204) == (outcome in (Outcome.APPENDED, Outcome.DUPLICATE))


# -- reads -----------------------------------------------------------------------------------------


def test_only_the_end_says_that_it_is_the_end() -> None:
    names = [
        [name for name, _ in place_headers(stream, end)]
        for stream, end in ((STREAM, 9), (STREAM, 10), (CLOSED_STREAM, 9), (CLOSED_STREAM, 10))
    ]
    first = b"stream-next-offset"
    assert names == [
        [first],
        [first, b"stream-up-to-date"],
        [first],
        [first, b"stream-up-to-date", b"stream-closed"],
    ]


@pytest.mark.parametrize(
    ("stream", "end", "live", "private", "cache"),
    [
        (STREAM, 9, False, False, "public, max-age=60, stale-while-revalidate=300"),
        (STREAM, 9, False, True, "private, max-age=60, stale-while-revalidate=300"),
        (STREAM, 10, False, False, "public, no-cache"),
        (STREAM, 10, True, False, "public, max-age=60, stale-while-revalidate=300"),
        (CLOSED_STREAM, 10, False, True, "private, max-age=60, stale-while-revalidate=300"),
        (replace(STREAM, ttl=60), 9, False, False, "public, no-cache"),
        (replace(STREAM, expires_at=1e9), 9, True, False, "public, no-cache"),
    ],
)
def test_what_caches_may_keep(
    stream: StreamState, end: int, live: bool, private: bool, cache: str
) -> None:
    headers = dict(cache_headers(stream, end, live=live, private=private))
    assert headers[b"cache-control"].decode() == cache
    assert headers[b"vary"] == b"authorization, accept-encoding"


def test_a_content_type_from_sql_that_is_none() -> None:
    assert content_type(STREAM) == (b"content-type", b"text/plain")
    for text in ("text/plain\r\nx: y", "täxt/plain", ""):
        assert content_type(replace(STREAM, content_type=text))[1] == b"application/octet-stream"


def test_an_entity_tag_tells_pages_streams_and_ends_apart() -> None:
    tags = [
        EntityTag.of(STREAM, 0, 9),
        EntityTag.of(STREAM, 0, 10),
        EntityTag.of(STREAM, 1, 9),
        EntityTag.of(CLOSED_STREAM, 0, 10),
        EntityTag.of(replace(STREAM, id=8), 0, 9),
        EntityTag.of(replace(STREAM, tail=11), 0, 10),
    ]
    assert len({str(tag) for tag in tags}) == len(tags)
    for tag in tags[:2]:
        assert known_tag(['"x"', f" W/{tag}"], STREAM, 0) == tag
    # More has come, or its end: not the same any more.
    assert known_tag([str(tags[1])], replace(STREAM, tail=11), 0) is None
    assert known_tag([str(tags[1])], CLOSED_STREAM, 0) is None
    assert known_tag([str(tags[0])], STREAM, 1) is None
    assert known_tag([str(tags[0])], replace(STREAM, id=8), 0) is None
    # Nobody was ever given these.
    assert (
        known_tag(
            ['"7-5:4"', '"7-5:4:t"', '"7-5:99"', '"7-5:99:t"', f'"{"9" * 5000}-5:9"', "*"],
            STREAM,
            5,
        )
        is None
    )


@pytest.mark.parametrize("chance", [0.0, 0.5, 0.999999])
def test_cursors_always_go_on(chance: float) -> None:
    now = EPOCH + 20 * 1000 + 3
    for cursor in (-1, 0, 999):
        assert next_cursor(cursor, now, chance) == 1000
    for cursor in (1000, 1001, 10**17):
        assert cursor < next_cursor(cursor, now, chance) <= cursor + 180


def test_a_clock_before_the_epoch_counts_from_0() -> None:
    assert next_cursor(-1, 0.0, 0.0) == 0


# -- compression -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("accepted", "wanted"),
    [
        (None, False),
        (b"", False),
        (b"gzip", True),
        (b"gzip, deflate", True),
        (b"br;q=1.0, GZIP;q=0.8", True),
        (b"gzip;q=0", False),
        (b"gzip;q=0.000", False),
        (b"identity", False),
        (b"gzipped", False),
    ],
)
def test_who_wants_gzip(accepted: bytes | None, wanted: bool) -> None:
    assert wants_gzip(accepted) is wanted


async def test_pieces_become_one_compressed_body() -> None:
    for size in (100, 100_000):
        pieces = [b"[", b"x" * size, b"]"]
        assert gzip.decompress(await gzipped(pieces)) == b"".join(pieces)


def test_what_is_compressed_already() -> None:
    assert is_dense("Image/PNG")
    assert is_dense("video/mp4; codecs=x")
    assert not is_dense("image/svg+xml")
    assert not is_dense("application/json")


# -- room ------------------------------------------------------------------------------------------


def test_pages_get_smaller_when_many_are_held() -> None:
    room = PageRoom()
    with ExitStack() as held:
        sizes = [held.enter_context(room.page()).most for _ in range(2000)]
        assert sizes[0] == PAGE_BYTES
        assert sizes[-1] == SMALL_PAGE_BYTES
        assert sum(sizes) == room.held <= ROOM_BYTES + 2000 * SMALL_PAGE_BYTES
    assert room.held == 0
    assert room.page(first=True).most == FIRST_PAGE_BYTES


def test_nobody_gets_a_page_where_too_much_is_held() -> None:
    room = PageRoom()
    with ExitStack() as held:
        # What was appended at once cannot be cut.
        for _ in range(MOST_BYTES // (16 << 20)):
            held.enter_context(room.page()).has(16 << 20)
        with pytest.raises(StreamRequestError) as error:
            room.page()
        assert (error.value.status, error.value.retry_after) == (503, 5)
    assert room.page().most == PAGE_BYTES
