"""The decoder against what real servers sent (see golden/capture.py)."""

from __future__ import annotations

from pathlib import Path

import pytest
from golden.captured import FILES, CapturedMessage, read_capture
from golden.expected import Scenario

from engine.pgoutput import (
    CHANGES,
    XLOG_HEADER,
    Begin,
    Message,
    decode,
    decode_change,
    decode_keepalive,
    decode_streamed_change,
    decode_xlog_data,
)

every_file = pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)


def decoded(message: CapturedMessage) -> tuple[int | None, Message]:
    return decode(message.data, XLOG_HEADER, streamed=message.streamed)


def test_both_protocols_were_captured():
    assert {path.stem[-1] for path in FILES} == {"1", "2"}


@every_file
def test_every_message_is_what_the_sql_said(path: Path):
    capture = read_capture(path)
    scenario = Scenario(capture.facts, proto=int(path.stem[-1]))
    seen: dict[str, list[tuple[int | None, Message]]] = {}
    for message in capture.messages:
        seen.setdefault(message.step, []).append(decoded(message))
    assert seen.keys() == scenario.steps.keys()
    for step, expected in scenario.steps.items():
        assert seen[step] == expected, step
        # Named tuples of different kinds may be equal.
        assert [type(m) for _, m in seen[step]] == [type(m) for _, m in expected], step


@every_file
def test_changes_have_a_way_of_their_own(path: Path):
    changes = 0
    for message in read_capture(path).messages:
        if message.data[XLOG_HEADER] in CHANGES:
            changes += 1
            if message.streamed:
                assert decode_streamed_change(message.data, XLOG_HEADER) == decoded(message)
            else:
                assert decode_change(message.data, XLOG_HEADER) == decoded(message)[1]
    assert changes > 20


@every_file
def test_a_message_may_begin_anywhere(path: Path):
    for message in read_capture(path).messages:
        payload = message.data[XLOG_HEADER:]
        assert decode(payload, streamed=message.streamed) == decoded(message)


@every_file
def test_envelopes_have_the_position_and_the_servers_clock(path: Path):
    capture = read_capture(path)
    committed = capture.facts["insert"]["committed_us"]
    last = capture.facts["after"]
    for message in capture.messages:
        header = decode_xlog_data(message.data)
        assert header.start_lsn == header.end_lsn
        assert committed < header.clock_us < last["committed_us"] + 60_000_000
        if isinstance(decoded(message)[1], Begin) and message.step == "after":
            # A Begin comes with the LSN of its transaction's first record.
            assert capture.facts["stream_abort"]["end_lsn"] <= header.start_lsn < last["lsn"]


@every_file
def test_keepalive(path: Path):
    capture = read_capture(path)
    last = capture.facts["after"]
    keepalive = decode_keepalive(capture.keepalive)
    assert keepalive.wal_end >= last["end_lsn"]
    assert 0 < keepalive.clock_us - last["committed_us"] < 60_000_000
    assert not keepalive.reply_requested
