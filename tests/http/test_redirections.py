"""A 409 leads on: it never names the handle that was sent, which clients do not take again."""

from __future__ import annotations

from typing import Any

import pytest
from follower import Follower, ask
from serving import Serving
from tables import Tables


@pytest.mark.parametrize("live", [None, True])
@pytest.mark.parametrize("offset", ["1_0", "1_2", "1_inf", "{before}_0"])
def test_offsets_from_before_the_snapshot(
    server: Serving, tables: Tables, offset: str, live: bool | None
) -> None:
    """No client has one that goes with its handle; a made-up one must not send it in circles."""
    name = tables.make("id int primary key")
    tables.run(f"insert into {name} values (1)")
    follower = Follower(server.url, name).sync()
    before = int(follower.offset.split("_")[0]) - 2_000_000
    place = offset.format(before=before)
    tables.run(f"insert into {name} values (2)")
    follower.take(1)
    handles: list[str | None] = [follower.handle]
    given: dict[str, Any] = {"table": name, "handle": follower.handle, "offset": place}
    answer = ask(server.url, live=live, **given)
    if answer.status == 200:
        assert answer.handle == follower.handle
        assert [one["value"]["id"] for one in answer.changes] == ["2"]
        return
    assert answer.status == 409
    assert answer.headers.get("electric-handle") not in handles
    # What a client does next.
    again = Follower(server.url, name, expired_handle=follower.handle)
    again.handle = None
    first = ask(server.url, table=name, offset=-1, handle=answer.headers.get("electric-handle"))
    assert first.handle not in handles, "the client would take it for an old answer of a cache"
    assert len(again.sync().rows) == 2
    # Whoever followed the old one goes on.
    tables.run(f"insert into {name} values (3)")
    assert follower.take_operations(1) == [("insert", {"id": "3"})]
    assert again.take_operations(1) == [("insert", {"id": "3"})]


def test_of_shapes_that_have_ended(server: Serving, tables: Tables) -> None:
    """Ended again and again, with clients at every stage."""
    name = tables.make("id int primary key")
    seen: list[str | None] = []
    for number in range(3):
        tables.run(f"insert into {name} values ({number})")
        follower = Follower(server.url, name).sync()
        assert follower.handle not in seen
        seen.append(follower.handle)
        tables.run(f"truncate {name}")
        while (answer := follower.request(live=True)).status == 200:
            # Its last row came after the snapshot.
            assert answer.changes
            follower.offset = answer.offset
        assert answer.status == 409
        for handle in seen:
            for place in ("0_0", "0_inf", follower.offset):
                answer = ask(server.url, table=name, handle=handle, offset=place)
                assert answer.status == 409
                assert answer.headers.get("electric-handle") not in seen
