"""The Python SDK's pure parts: values, packets, scopes, delays."""

from __future__ import annotations

import math
import random
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pgtide.configuration import configuration
from pgtide.errors import InvalidRequestError
from pgtide.protocol import superjson
from pgtide.protocol.arrays import parse_array
from pgtide.protocol.backoff import Backoff, retry_after
from pgtide.protocol.definition import table_definition
from pgtide.protocol.event_stream import EventStream
from pgtide.protocol.intervals import parse_interval
from pgtide.protocol.packets import Packet, StoredPacket, pack, unpack
from pgtide.protocol.run_following import run_definition
from pgtide.protocol.token_calls import expiration, flattened
from pgtide.protocol.values import PARSERS, Schema


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("{}", []),
        ("{1,NULL,3}", ["1", None, "3"]),
        ('{"NULL","",a b}', ["NULL", "", "a b"]),
        ('{{a,b},{"c,}",d}}', [["a", "b"], ["c,}", "d"]]),
        ("[0:1][-2:-2]={{1},{2}}", [["1"], ["2"]]),
        ('{"\\"\\\\"}', ['"\\']),
        ("{{{1}},{{2}}}", [[["1"]], [["2"]]]),
    ],
)
def test_array_literals(text: str, value: list[Any]) -> None:
    assert parse_array(text, str) == value


@pytest.mark.parametrize(
    "text", ["", "{", "{1", "{1,}", "{,1}", '{"a}', "{1}x", "1", "{{1}", "{1 {2}}"]
)
def test_what_is_no_array_literal_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        parse_array(text, int)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("PT0S", timedelta()),
        ("P1DT2H", timedelta(days=1, hours=2)),
        ("PT-0.5S", timedelta(seconds=-0.5)),
        ("P-1Y2M-3DT4H-5M6.000007S", timedelta(-308, 4 * 3600 - 294, microseconds=7)),
        ("P2W", timedelta(weeks=2)),
    ],
)
def test_intervals(text: str, value: timedelta) -> None:
    assert parse_interval(text) == value


def test_a_schema_makes_values_and_leaves_what_it_does_not_know() -> None:
    schema = Schema(
        {
            "n": {"type": "numeric"},
            "m": {"type": "numeric", "dims": 1},
            "later": {"type": "timestamptz"},
            "mood": {"type": "mood"},
        },
        {"numeric": float},
    )
    row = {"n": "1.5", "m": "{1,2}", "later": "infinity", "mood": "glad", "new": "7", "none": None}
    assert schema.parse(row) == {
        "n": 1.5,
        "m": [1.0, 2.0],
        "later": "infinity",
        "mood": "glad",
        "new": "7",
        "none": None,
    }
    assert PARSERS["numeric"]("NaN").is_nan()
    assert PARSERS["numeric"]("1.50") == Decimal("1.50")


@given(st.binary(max_size=200), st.randoms())
def test_events_come_whole_however_they_are_cut(data: bytes, chance: random.Random) -> None:
    line = data.replace(b"\n", b" ").replace(b"\r", b" ")
    body = b": keep-alive\n\ndata: " + line + b"\n\ndata:a\r\ndata: b\r\n\r\nevent: x\n\ndata: torn"
    events, found = EventStream(), list[bytes]()
    while body:
        size = chance.randrange(1, 9)
        found += events.feed(body[:size])
        body = body[size:]
    assert found == [line, b"a\nb"]


JAVASCRIPT = {
    "json": {
        "at": "2026-01-02T03:04:05.678Z",
        "big": "123456789012345678901",
        "nothing": None,
        "set": [1, "2026-01-02T00:00:00.000Z"],
        "map": [["a.b", "NaN"], [2, "x"]],
        "re": "/a/g",
        "in": {"a.b": "2026-01-02T00:00:00.000Z"},
    },
    "meta": {
        "values": {
            "at": ["Date"],
            "big": ["bigint"],
            "nothing": ["undefined"],
            "set": ["set", {"1": ["Date"]}],
            "map": ["map", {"0.1": ["number"]}],
            "re": ["regexp"],
            "in.a\\.b": ["Date"],
        },
        "v": 1,
    },
}


def test_superjson_as_javascript_writes_it() -> None:
    second = datetime(2026, 1, 2, tzinfo=UTC)
    found = superjson.decode(JAVASCRIPT)
    assert math.isnan(found["map"].pop("a.b"))
    assert found == {
        "at": datetime(2026, 1, 2, 3, 4, 5, 678000, tzinfo=UTC),
        "big": 123456789012345678901,
        "nothing": None,
        "set": {1, second},
        "map": {2: "x"},
        "re": "/a/g",
        "in": {"a.b": second},
    }
    assert superjson.decode({"json": "x", "meta": {"values": {"no.where": ["Date"]}}}) == "x"


PLAIN = st.none() | st.booleans() | st.integers() | st.text(max_size=5)
TIMES = st.datetimes(
    min_value=datetime(1970, 1, 1), max_value=datetime(2200, 1, 1), timezones=st.just(UTC)
).map(lambda time: time.replace(microsecond=time.microsecond // 1000 * 1000))
KEYS = st.text(alphabet="ab.\\", max_size=4)
VALUES: st.SearchStrategy[Any] = st.recursive(
    PLAIN | TIMES | st.floats(allow_nan=False),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(KEYS, inner, max_size=3)
        | st.dictionaries(st.integers(), inner, min_size=1, max_size=3)
        | st.sets(TIMES | st.text(max_size=3), max_size=3)
    ),
    max_leaves=8,
)


@given(VALUES)
def test_values_survive_packing(value: Any) -> None:
    packet = pack(value)
    assert unpack(packet.data, packet.type) == (None if value == "" else value)


def test_packets_of_each_type() -> None:
    assert pack(None) == Packet(None, "application/json")
    assert pack("text") == Packet("text", "text/plain")
    assert pack({"a": (1, 2.5)}) == Packet('{"a":[1,2.5]}', "application/json")
    assert unpack("packets/1", "application/store") == StoredPacket("packets/1")
    assert unpack("{no json", "application/json") == "{no json"
    assert unpack("x", "image/png") == "x"
    with pytest.raises(InvalidRequestError, match="object"):
        pack({"a": object()})


def test_scopes_and_expiry() -> None:
    permissions: Any = {
        "read": {"runs": ["a", "b"], "tags": "user:1", "batch": True, "tasks": False},
        "write": {"input_streams": "r"},
        "trigger": None,
    }
    assert flattened(permissions, ["read:runs:a", "admin"]) == [
        *("read:runs:a", "read:runs:b", "read:tags:user:1", "read:batch"),
        *("write:inputStreams:r", "admin"),
    ]
    for wrong in ({"runs": [""]}, {"runs": ["a", " "]}, {"rnus": ["a"]}):
        with pytest.raises(InvalidRequestError):
            flattened({"read": wrong}, [])
    assert expiration("15m") == "15m"
    assert expiration(timedelta(hours=1)) == "3600s"
    assert expiration(datetime(2026, 1, 1, tzinfo=UTC)) == 1767225600
    with pytest.raises(InvalidRequestError):
        expiration(0)


def test_what_is_asked_for_makes_sense() -> None:
    with pytest.raises(InvalidRequestError, match="one of these"):
        run_definition("run_1", ["a"], None, None, ())
    with pytest.raises(InvalidRequestError, match="comma"):
        run_definition(None, ["a,b"], None, None, ())
    with pytest.raises(InvalidRequestError, match="since"):
        run_definition("run_1", None, None, "1h", ())
    found = run_definition(None, "a b", None, timedelta(hours=1), ["started_at", "tags"])
    assert found.path == "/realtime/v1/runs"
    assert found.query == (
        ("createdAt", "3600s"),
        ("skipColumns", "startedAt,runTags"),
        ("tags", "a b"),
    )
    assert run_definition("a/b?", None, None, None, ()).path == "/realtime/v1/runs/a%2Fb%3F"
    with pytest.raises(InvalidRequestError, match="names"):
        table_definition("t", {"columns": "id"})
    with pytest.raises(InvalidRequestError, match="offset"):
        table_definition("t", {"extra": {"offset": "-1"}})


def test_configuration_from_code_and_environment() -> None:
    environ = {"TRIGGER_API_URL": "http://a/", "PGTIDE_URL": "", "TRIGGER_SECRET_KEY": "k"}
    found = configuration(environ=environ)
    assert (found.base_url, found.token) == ("http://a", "k")
    assert configuration("https://b/x/", access_token="t", environ=environ).token == "t"
    assert "t-o-k" not in repr(configuration(access_token="t-o-k", environ={}))
    for wrong in ("localhost:3000", "http://u:p@h", "http://h?x=1"):
        with pytest.raises(InvalidRequestError) as refused:
            configuration(wrong, environ={})
        assert "u:p" not in str(refused.value)


def test_delays_grow_are_spread_and_obey_the_server() -> None:
    backoff = Backoff(first=1, longest=8)
    delays = [backoff.next() for _ in range(6)]
    for delay, most in zip(delays, (1, 2, 4, 8, 8, 8), strict=True):
        assert most / 2 <= delay <= most
    assert backoff.next(demanded=30) >= 30
    backoff.reset()
    assert backoff.next() <= 1
    assert len({Backoff().next() for _ in range(20)}) > 1


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"retry-after": "7"}, 7.0),
        ({"retry-after": "Thu, 01 Jan 2026 00:01:00 GMT"}, 60.0),
        ({"retry-after": "soon"}, None),
        ({"retry-after": "-5"}, 0.0),
        ({"retry-after": "nan"}, None),
        ({"retry-after": "999999"}, 3600.0),
        ({"x-ratelimit-reset": "1767225603000"}, 3.0),
        ({}, None),
    ],
)
def test_what_the_server_demands(headers: dict[str, str], seconds: float | None) -> None:
    now = datetime(2026, 1, 1, tzinfo=UTC)
    assert retry_after(headers, now) == seconds
