"""The decoder over bad input and rows of every make. For real ones see test_pgoutput_golden."""

from __future__ import annotations

import re
import struct
import tracemalloc
from contextlib import suppress

import pytest
from exploring import examples
from golden.captured import FILES, read_capture
from hypothesis import example, given, settings
from hypothesis import strategies as st

from engine.errors import ProtocolError
from engine.lsn import MAX_LSN, Lsn
from engine.pgoutput import (
    UNCHANGED,
    Begin,
    Change,
    Commit,
    Keepalive,
    LogicalMessage,
    Relation,
    Row,
    StreamAbort,
    Truncate,
    Type,
    XLogData,
    decode,
    decode_change,
    decode_keepalive,
    decode_streamed_change,
    decode_xlog_data,
    standby_status_update,
)

PAYLOADS = [
    (message.data[25:], message.streamed)
    for message in read_capture(FILES[-1]).messages
    if len(message.data) < 1000
]
"""Everything that a server sent in protocol version 2, without the TOASTed rows."""

YEAR_2000_US = 946_684_800_000_000

thorough = settings(max_examples=examples(500))


# -- an encoder, written from the manual and apart from the decoder ------------------------------


def encode_row(row: Row) -> bytes:
    columns = [struct.pack("!h", len(row))]
    for value in row:
        if value is None:
            columns.append(b"n")
        elif isinstance(value, int):
            columns.append(b"u")
        else:
            text = value.encode()
            columns.append(b"t" + struct.pack("!i", len(text)) + text)
    return b"".join(columns)


def encode_change(change: Change, xid: int | None = None) -> bytes:
    op, oid, new, old, old_is_key = change
    parts = [op.encode()]
    if xid is not None:
        parts.append(struct.pack("!I", xid))
    parts.append(struct.pack("!I", oid))
    if old is not None:
        parts.append((b"K" if old_is_key else b"O") + encode_row(old))
    if new is not None:
        parts.append(b"N" + encode_row(new))
    return b"".join(parts)


# -- rows of every make ---------------------------------------------------------------------------

texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"))
old_values = st.none() | texts | texts.map(lambda text: text * 300)
new_values = old_values | st.just(UNCHANGED)
u32 = st.integers(0, 2**32 - 1)


@st.composite
def changes(draw: st.DrawFn) -> Change:
    width = draw(st.integers(0, 12))
    new: Row = draw(st.lists(new_values, min_size=width, max_size=width))
    old: Row = draw(st.lists(old_values, min_size=width, max_size=width))
    op = draw(st.sampled_from("IUD"))
    old_is_key = op != "I" and draw(st.booleans())
    with_old = op == "D" or (op == "U" and (old_is_key or draw(st.booleans())))
    return op, draw(u32), None if op == "D" else new, old if with_old else None, old_is_key


def filled(change: Change) -> Change:
    """The change with the unchanged values that a full old row tells."""
    op, oid, new, old, old_is_key = change
    if new is not None and old is not None and not old_is_key:
        new = [
            before if value == UNCHANGED else value for value, before in zip(new, old, strict=True)
        ]
    return op, oid, new, old, old_is_key


@given(change=changes(), before=st.binary(max_size=30))
@thorough
def test_rows_come_back_as_they_were(change: Change, before: bytes):
    message = before + encode_change(change)
    assert decode_change(message, len(before)) == filled(change)
    assert decode(message, len(before)) == (None, filled(change))


@given(change=changes(), xid=u32)
@thorough
def test_streamed_rows_come_back_with_their_xid(change: Change, xid: int):
    message = encode_change(change, xid)
    assert decode_streamed_change(message) == (xid, filled(change))
    assert decode(message, streamed=True) == (xid, filled(change))


def test_only_a_full_old_row_fills_in_unchanged_values():
    new: Row = ["1", UNCHANGED, None]
    full = encode_change(("U", 7, new, ["0", "long", "x"], False))
    key = encode_change(("U", 7, new, ["0", None, None], True))
    assert decode_change(full)[2] == ["1", "long", None]
    assert decode_change(key)[2] == ["1", UNCHANGED, None]
    assert decode_change(encode_change(("U", 7, new, None, False)))[2] == ["1", UNCHANGED, None]


# -- what the captured scenario has not ------------------------------------------------------------


def test_an_empty_schema_is_pg_catalog():
    assert decode(b"Y\0\0\0\x07\0mine\0") == (None, Type(7, "pg_catalog", "mine"))
    relation = b"R\0\0\0\x07\0mine\0d\0\0"
    assert decode(relation) == (None, Relation(7, "pg_catalog", "mine", "d", ()))


def test_protocol_4_adds_to_stream_abort():
    abort = b"A\0\0\0\x07\0\0\0\x08"
    assert decode(abort) == (None, StreamAbort(7, 8))
    assert decode(abort + bytes(16)) == (None, StreamAbort(7, 8))
    with pytest.raises(ProtocolError, match=r"byte 9: expected abort LSN .* 8 are there"):
        decode(abort + bytes(8))


@pytest.mark.parametrize(
    ("options", "cascade", "restart_identity"),
    [(0, False, False), (1, True, False), (2, False, True)],
)
def test_truncate_has_its_options_apart(options: int, cascade: bool, restart_identity: bool):
    message = b"T\0\0\0\x01" + bytes([options]) + b"\0\0\0\x07"
    assert decode(message) == (None, Truncate((7,), cascade, restart_identity))


def test_lsns_oids_and_xids_are_unsigned_and_times_signed():
    top = b"\xff" * 8
    before_2000 = YEAR_2000_US - 1
    assert decode(b"B" + top + top + top[:4]) == (None, Begin(MAX_LSN, before_2000, 2**32 - 1))
    assert decode(b"C" + top + top + top + b"\xff") == (
        None,
        Commit(255, MAX_LSN, MAX_LSN, before_2000),
    )
    assert decode(b"A" + top) == (None, StreamAbort(2**32 - 1, 2**32 - 1))
    assert decode(b"T\0\0\0\x01\0" + top[:4]) == (None, Truncate((2**32 - 1,), False, False))


def test_content_of_a_logical_message_may_be_any_bytes():
    message = b"M\0" + bytes(7) + b"\x05" + b"p\0" + b"\0\0\0\x03\0\xff\0"
    assert decode(message) == (None, LogicalMessage(False, Lsn(5), "p", b"\0\xff\0"))


# -- bad input ---------------------------------------------------------------------------------

INSERT = b"I\0\0\0\x07N"
UPDATE = b"U\0\0\0\x07"
RELATION = b"R\0\0\0\x07s\0t\0"

REFUSED = [
    (b"", "byte 0: expected a message kind"),
    (b"b", "byte 0: expected a message kind of protocol version 1 or 2, found 0x62; .*two_phase"),
    (b"\0", "byte 0: expected a message kind of protocol version 1 or 2, found 0x00"),
    (b"B" + bytes(19), r"'B', byte 1: expected final LSN, .*20 bytes, of which 19 are there"),
    (b"B" + bytes(21), "'B', byte 21: expected the message's end, found 0x00"),
    (b"E\0", "'E', byte 1: expected the message's end"),
    (b"O" + bytes(8) + b"name", "byte 9: expected the origin's name that a zero byte ends"),
    (b"O" + bytes(8) + b"na\xffe\0", "byte 11: expected the origin's name in UTF-8, found 0xff"),
    (RELATION + b"x\0\0", r"byte 9: expected a replica identity \(d, n, f, i\), found 0x78"),
    (RELATION + b"d\xff\xff", "byte 12: expected the column's flags"),
    (RELATION + b"d\0\x01\0c\0\0\0\0\x19", "byte 19: expected the column's type modifier"),
    (b"T\xff\xff\xff\xff\0\0\0\0\x07", "byte 6: expected the relations' OIDs"),
    (b"T\0\0\0\x01\0\0\0\0\x07\0", "byte 10: expected the message's end"),
    (b"M\0" + bytes(8) + b"p\0\xff\xff\xff\xff", "byte 16: expected the content"),
    (b"I", "'I', byte 1: expected the relation's OID"),
    (b"I\0\0\0\x07O\0\0", r"byte 5: expected a tuple's mark \(N\), found 0x4f"),
    (b"D\0\0\0\x07N\0\0", r"byte 5: expected a tuple's mark \(K, O\), found 0x4e"),
    (UPDATE + b"X\0\0", r"byte 5: expected a tuple's mark \(K, N, O\), found 0x58"),
    (UPDATE + b"O\0\0", "byte 8: expected the new tuple's mark"),
    (UPDATE + b"O\0\0K\0\0", r"byte 8: expected the new tuple's mark \(N\), found 0x4b"),
    (UPDATE + b"O\0\x01nN\0\x02nu", "byte 13: expected a column that the old row has too"),
    (INSERT + b"\0", "byte 6: expected the number of columns"),
    (INSERT + b"\xff\xff", "byte 8: expected a column's kind"),
    (INSERT + b"\0\x01x", r"byte 8: expected a column's kind \(n, t, u\), found 0x78"),
    (INSERT + b"\0\x01b\0\0\0\x01x", "byte 8: .*found 0x62; start replication without binary"),
    (INSERT + b"\0\x01t\0\0", "byte 9: expected the value's length"),
    (INSERT + b"\0\x01t\0\0\0\x05four", r"byte 13: expected a value \(5 bytes, of which 4"),
    (INSERT + b"\0\x01t\xff\xff\xff\xffx", r"byte 13: expected a value \(4294967295 bytes"),
    (INSERT + b"\0\x01t\0\0\0\x03a\xc3b", "byte 14: expected a value in UTF-8, .*SQL_ASCII"),
    (INSERT + b"\0\x01nn", "byte 9: expected the message's end, found 0x6e"),
]


@pytest.mark.parametrize(("message", "expected"), REFUSED, ids=lambda value: repr(value)[:40])
@pytest.mark.parametrize("before", [b"", b"envelope"], ids=["at 0", "at 8"])
def test_errors_say_what_was_expected_where(message: bytes, expected: str, before: bytes):
    with pytest.raises(ProtocolError, match=expected):
        decode(before + message, len(before))


def test_decode_change_takes_only_changes():
    with pytest.raises(ProtocolError, match=r"byte 0: expected a kind of change \(I, U, D\)"):
        decode_change(b"B" + bytes(4) + b"N\0\0")


def test_errors_do_not_show_values():
    with pytest.raises(ProtocolError) as caught:
        decode(encode_change(("I", 7, ["a secret", "b"], None, False)) + b"c")
    assert "secret" not in str(caught.value)


def test_a_start_behind_the_end_is_refused():
    for call in (decode, decode_change, decode_streamed_change):
        with pytest.raises(ProtocolError, match="found its end"):
            call(b"E", 5)


@pytest.mark.parametrize("message", [message for message, _ in REFUSED], ids=repr)
def test_lengths_in_bad_messages_are_not_believed(message: bytes):
    tracemalloc.start()
    try:
        with suppress(ProtocolError):
            decode(message)
        assert tracemalloc.get_traced_memory()[1] < 100_000
    finally:
        tracemalloc.stop()


def refused_or_decoded(message: bytes, *, streamed: bool) -> ProtocolError | None:
    """Decode in each way there is; anything raised but a ProtocolError fails the test."""
    try:
        decode(message, streamed=streamed)
    except ProtocolError as error:
        refusal = error
    else:
        return None
    # The hot path and the one that explains its refusals agree on what is wrong.
    assert "well-formed" not in str(refusal)
    assert re.search(r"byte \d+: expected ", str(refusal))
    with pytest.raises(ProtocolError):
        decode_change(message, streamed=streamed)
    return refusal


def test_every_message_cut_anywhere_is_refused():
    for payload, streamed in PAYLOADS:
        for size in range(len(payload)):
            assert refused_or_decoded(payload[:size], streamed=streamed), (payload, size)


def test_every_message_with_a_byte_more_is_refused():
    for payload, streamed in PAYLOADS:
        assert refused_or_decoded(payload + b"\0", streamed=streamed), payload


def test_every_byte_of_every_message_may_be_wrong():
    refused = 0
    for payload, streamed in PAYLOADS:
        for position in range(len(payload)):
            for byte in b"\x00\x01\x7f\x80\xfftnuNK":
                broken = payload[:position] + bytes([byte]) + payload[position + 1 :]
                refused += refused_or_decoded(broken, streamed=streamed) is not None
    assert refused > 1000


edits = st.lists(st.tuples(st.integers(0, 999), st.binary(max_size=6)), min_size=1, max_size=6)


@given(captured=st.sampled_from(PAYLOADS), edits=edits, streamed=st.booleans())
@thorough
def test_messages_may_be_spoiled_at_random(
    captured: tuple[bytes, bool], edits: list[tuple[int, bytes]], streamed: bool
):
    payload = bytearray(captured[0])
    for position, replacement in edits:
        begin = position % (len(payload) + 1)
        payload[begin : begin + position // 300] = replacement
    refused_or_decoded(bytes(payload), streamed=streamed)


@given(kind=st.sampled_from(b"BCORYTMSEcAIUDbPKrp\0"), rest=st.binary(), streamed=st.booleans())
@example(kind=ord("I"), rest=b"", streamed=True)
@thorough
def test_any_bytes_are_refused_or_decoded(kind: int, rest: bytes, streamed: bool):
    refused_or_decoded(bytes([kind]) + rest, streamed=streamed)


# -- the copy stream ---------------------------------------------------------------------------


def test_envelopes():
    data = b"w" + struct.pack("!QQq", 1, 2**64 - 1, 7) + b"payload"
    assert decode_xlog_data(data) == XLogData(Lsn(1), MAX_LSN, YEAR_2000_US + 7)
    data = b"k" + struct.pack("!Qqb", 2**63, -1, 1)
    assert decode_keepalive(data) == Keepalive(Lsn(2**63), YEAR_2000_US - 1, True)


@pytest.mark.parametrize("message", [b"", b"w" + bytes(23), b"k" + bytes(24)], ids=repr)
def test_bad_xlog_data(message: bytes):
    with pytest.raises(ProtocolError, match="expected w and at least 25 bytes"):
        decode_xlog_data(message)


@pytest.mark.parametrize("message", [b"", b"k" + bytes(16), b"k" + bytes(18), b"w" + bytes(17)])
def test_bad_keepalive(message: bytes):
    with pytest.raises(ProtocolError, match="expected k and exactly 18 bytes"):
        decode_keepalive(message)


def test_standby_status_update():
    update = standby_status_update(0x1_0000_0003, 2, 1, YEAR_2000_US + 256, reply_requested=True)
    lsns = "0000000100000003 0000000000000002 0000000000000001"
    assert update == bytes.fromhex(f"72 {lsns} 0000000000000100 01")
    assert standby_status_update(0, 0, 0, YEAR_2000_US, reply_requested=False)[-1] == 0
