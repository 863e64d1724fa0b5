"""The streams of sessions: what goes in, what comes out, and channels beside them."""

from __future__ import annotations

import json
import secrets

import pytest
from back_ends import BackEnd
from stream_reader import reading

SESSIONS = "/realtime/v1/sessions"
TURN_COMPLETE = {"$trigger.headers": [["trigger-control", "turn-complete"], ["a", "b"]]}


@pytest.fixture
def session() -> str:
    return f"chat:{secrets.token_hex(4)}"


def say(back_end: BackEnd, session: str, *messages: object, io: str = "out") -> None:
    for message in messages:
        path = f"sessions/{session}/{io}"
        back_end.db.run("select pgtide.append(%s, %s::jsonb)", path, json.dumps(message))


def test_records_and_control_records(back_end: BackEnd, session: str) -> None:
    browser = back_end.token(f"read:sessions:{session}")
    path = f"{SESSIONS}/{session}/out"
    with reading(browser, path) as reader:
        say(back_end, session, {"type": "text"}, TURN_COMPLETE, {"$trigger.headers": 1}, "next")
        one, control, other, last = reader.take(4)
    assert (one.number, one.data, one.headers) == (0, {"type": "text"}, [])
    assert (control.number, control.data, control.id) == (1, None, None)
    assert control.headers == TURN_COMPLETE["$trigger.headers"]
    assert (other.data, last.data) == ({"$trigger.headers": 1}, "next")
    with reading(browser, path, {"last-event-id": "1"}) as reader:
        assert reader.messages(2) == [{"$trigger.headers": 1}, "next"]
    found = browser.ask("GET", f"{path}/records").json()["records"]
    assert [record["seqNum"] for record in found] == [0, 1, 2, 3]
    assert found[0] == {"data": {"type": "text"}, "id": "0", "seqNum": 0}
    assert found[1]["headers"] == TURN_COMPLETE["$trigger.headers"]
    found = browser.ask("GET", f"{path}/records", query={"afterEventId": "2"}).json()["records"]
    assert [record["data"] for record in found] == ["next"]
    assert browser.ask("GET", f"{path}/records?afterEventId=x").status_code == 400
    assert browser.ask("GET", f"{SESSIONS}/{session}/out/records/x").status_code == 404


def test_a_session_that_is_settled(back_end: BackEnd, session: str) -> None:
    path, peek = f"{SESSIONS}/{session}/out", {"x-peek-settled": "1"}
    say(back_end, session, "answer", TURN_COMPLETE)
    with reading(back_end, path, peek) as reader:
        assert reader.response.headers["x-session-settled"] == "true"
        assert len(reader.rest()) == 2
    with reading(back_end, path, {**peek, "last-event-id": "1"}) as reader:
        assert reader.rest() == []
    say(back_end, session, "more")
    with reading(back_end, path, peek) as reader:
        assert "x-session-settled" not in reader.response.headers
        assert reader.take(3)[2].data == "more"
    with reading(back_end, path, {"timeout-seconds": "1"}) as reader:
        assert len(reader.rest()) == 3
        assert reader.reason == "idle"


def test_what_goes_in(back_end: BackEnd, session: str) -> None:
    browser = back_end.token(f"write:sessions:{session}", f"read:sessions:{session}")
    path = f"{SESSIONS}/{session}/in"
    with reading(back_end, path) as reader:
        for part, sequence in (("a", {"seq": 0}), ("a", {}), ("b", {"seq": 1})):
            answer = browser.ask("POST", f"{path}/append", f'{{"{part}"}}', {"x-part-id": part})
            assert (answer.status_code, answer.json()) == (200, {"ok": True, **sequence})
        assert reader.messages(2) == ['{"a"}', '{"b"}']
    assert browser.ask("GET", f"{path}/records").status_code == 403
    assert browser.ask("POST", f"{SESSIONS}/{session}/out/append", b"x").status_code == 403
    assert back_end.ask("POST", f"{SESSIONS}/{session}/out/append", b"x").status_code == 200
    assert back_end.ask("GET", f"{SESSIONS}/{session}/other").status_code == 404


def test_channels(back_end: BackEnd, session: str) -> None:
    browser = back_end.token(f"read:sessions:{session}:channels:screens:out")
    path = f"{SESSIONS}/{session}/channels/screens/out"
    with reading(browser, path, {"x-trigger-stream-start": "latest"}) as reader:
        say(back_end, session, 1, 2, io="channels/screens/out")
        assert reader.messages(2) == [1, 2]
    assert browser.ask("GET", f"{SESSIONS}/{session}/out/records").status_code == 403


def test_no_scope_means_two_things(back_end: BackEnd, session: str) -> None:
    """Ids have colons as they like, unless a part of another session has the same name."""
    say(back_end, session, "of its own")
    for name in (f"{session}:in", f"{session}:out", f"{session}:channels", f"{session}:channels:c"):
        say(back_end, name, "hidden")
        for asking in (back_end, back_end.token(f"read:sessions:{name}")):
            answer = asking.ask("GET", f"{SESSIONS}/{name}/out/records")
            assert (answer.status_code, "hidden" in answer.text) == (400, False), name
            assert asking.ask("POST", f"{SESSIONS}/{name}/in/append", b"x").status_code == 400
    side = back_end.token(f"read:sessions:{session}:out")
    found = side.ask("GET", f"{SESSIONS}/{session}/out/records").json()["records"]
    assert [record["data"] for record in found] == ["of its own"]
    assert side.ask("GET", f"{SESSIONS}/{session}/channels/c:out/out/records").status_code == 400
    for name in (f"{session}:1", f"{session}:channels-of-its-own", "channels", f"in:{session}"):
        browser = back_end.token(f"read:sessions:{name}")
        assert browser.ask("GET", f"{SESSIONS}/{name}/out/records").json() == {"records": []}


def test_a_session_cannot_be_called_like_anothers_stream(back_end: BackEnd, session: str) -> None:
    say(back_end, session, "of the channel", io="channels/c/out")
    name = f"{session}/channels/c"
    browser = back_end.token(f"read:sessions:{name}", f"write:sessions:{name}")
    path = f"{SESSIONS}/{name.replace('/', '%2F')}"
    assert browser.ask("GET", f"{path}/out/records").json() == {"records": []}
    assert browser.ask("POST", f"{path}/in/append", b"x").status_code == 200
    own = back_end.ask("GET", f"{SESSIONS}/{session}/channels/c/in/records")
    assert own.json() == {"records": []}
