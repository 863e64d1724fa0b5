"""Many clients of one shape behind nginx: a change costs pgtide a request or two, and all get it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

import pytest
from follower import Answer, Follower, ask
from serving import Serving
from shape_client import ShapeClient
from shape_rows import Subject
from tables import Tables

from bench.nginx import Logged, Nginx

CHANGES_PER_SECOND = 5
MOST_PER_CHANGE = 3


@pytest.fixture
def items(cached_tables: Tables) -> str:
    name = cached_tables.make("id int primary key, label text")
    cached_tables.run(f"insert into {name} values (0, 'zero')")
    return name


class Crowd:
    """Clients of one shape. Each of them fails on a change that comes twice, or out of order."""

    def __init__(self, nginx: Nginx, table: str) -> None:
        self._nginx = nginx
        self._table = table
        self.clients: list[ShapeClient] = []

    async def join(self, count: int) -> None:
        """That many more; returns when they are live."""
        new = [
            ShapeClient(self._nginx.url, Subject(self._table), name=f"client {number}")
            for number in range(len(self.clients), len(self.clients) + count)
        ]
        self.clients += new
        for client in new:
            client.start()
        await self.until(lambda client: client.up_to_date)

    async def until_has(self, number: int) -> None:
        """Until everybody has the row."""
        key = f'"public"."{self._table}"/"{number}"'
        await self.until(lambda client: key in client.rows)

    async def until(self, condition: Callable[[ShapeClient], bool]) -> None:
        for client in self.clients:
            if not await client.until(lambda client=client: condition(client)):
                client.check()
                raise AssertionError(client.describe())

    async def stop(self) -> None:
        for client in self.clients:
            await client.stop()
            client.check()


@asynccontextmanager
async def crowd(nginx: Nginx, table: str) -> AsyncGenerator[Crowd]:
    gathered = Crowd(nginx, table)
    try:
        yield gathered
    finally:
        await gathered.stop()


async def change(tables: Tables, table: str, numbers: range) -> None:
    """One new row after the other, at an even pace."""
    for number in numbers:
        await asyncio.to_thread(tables.run, f"insert into {table} values ({number}, 'x')")
        await asyncio.sleep(1 / CHANGES_PER_SECOND)


def live_requests(nginx: Nginx, table: str) -> list[Logged]:
    """For which pgtide was asked."""
    return [
        line
        for line in nginx.origin_requests()
        if line.fields["table"] == table and line.fields["live"]
    ]


async def test_a_crowd_costs_as_much_as_one(
    nginx: Nginx, cached_tables: Tables, items: str
) -> None:
    async with crowd(nginx, items) as gathered:
        await gathered.join(150)
        asked = nginx.origin_requests()
        opening = [line for line in asked if line.fields["table"] == items]
        assert len(opening) <= 4, opening
        await change(cached_tables, items, range(1, 4))
        await gathered.until_has(3)
        before = len(live_requests(nginx, items))
        await change(cached_tables, items, range(4, 10))
        await gathered.until_has(9)
        count = len(live_requests(nginx, items)) - before
        assert count <= 6 * MOST_PER_CHANGE
        for client in gathered.clients:
            assert client.counts.messages == 10, client.describe()
            assert client.counts.snapshots == 1


@dataclass(frozen=True)
class Straight(Subject):
    """As it is asked for without nginx."""

    secret: str = ""

    def parameters(self) -> dict[str, str]:
        return super().parameters() | {"secret": self.secret}


async def test_crowds_that_come_one_after_the_other_become_one(
    nginx: Nginx, cached: Serving, cached_tables: Tables, items: str, secret: str
) -> None:
    """They begin at other offsets and with other cursors, as if all that is kept had expired."""
    async with crowd(nginx, items) as gathered:
        await gathered.join(5)
        for number in range(1, 7):
            straight = Straight(items, secret=secret)
            new = [ShapeClient(cached.url, straight, name=f"{number}") for _ in range(3)]
            for client in new:
                await client.catch_up()
                client.url, client.subject = nginx.url, Subject(items)
                client.start()
            gathered.clients += new
            await change(cached_tables, items, range(number, number + 1))
        await change(cached_tables, items, range(7, 10))
        await gathered.until_has(9)
        before = len(live_requests(nginx, items))
        await change(cached_tables, items, range(10, 15))
        await gathered.until_has(14)
        asked = live_requests(nginx, items)[before:]
        assert len(asked) <= 5 * MOST_PER_CHANGE, "\n".join(map(str, asked))


def test_who_has_moved_on_gets_nothing_old(nginx: Nginx, cached_tables: Tables, items: str) -> None:
    reader = Follower(nginx.url, items).sync()
    silent = reader.step(live=True)
    assert silent.headers["electric-has-data"] == "false"
    assert cache(reader.request(live=True, cursor="")) == "HIT", "who comes late may have it too"
    # The same offset again: only the cursor tells this poll from the last one.
    later = reader.step(live=True)
    assert later.offset == silent.offset
    assert cache(later) == "MISS"
    assert int(later.headers["electric-cursor"]) > int(silent.headers["electric-cursor"])
    place, cursors = later.offset, {later.headers["electric-cursor"]}
    for number in range(1, 6):
        cached_tables.run(f"insert into {items} values ({number}, 'x')")
        reader.take(1)
        assert reader.offset != place
        assert reader.cursor not in cursors
        place, cursors = reader.offset, {*cursors, reader.cursor or ""}


def cache(answer: Answer) -> str:
    return answer.headers["x-proxy-cache"]


async def test_kept_redirects_lead_everybody_to_the_new_shape(
    nginx: Nginx, cached_tables: Tables, items: str
) -> None:
    old = await asyncio.to_thread(lambda: Follower(nginx.url, items).sync())
    async with crowd(nginx, items) as gathered:
        await gathered.join(20)
        for number in (1, 2):
            statements = f"truncate {items}; insert into {items} values ({number}, 'x')"
            await asyncio.to_thread(cached_tables.run, statements)
            await gathered.until_has(number)
            # Who comes now gets the old beginning out of the cache, and is sent on.
            await gathered.join(10)
            await gathered.until_has(number)
        for client in gathered.clients:
            assert len(client.rows) == 1, client.describe()
        handles = {client.handle for client in gathered.clients}
        assert len(handles) == 1
        # And whoever was away all the time.
        first, second = [
            await asyncio.to_thread(
                ask, nginx.url, table=items, offset=old.offset, handle=old.handle
            )
            for _ in range(2)
        ]
        assert (first.status, second.status, cache(second)) == (409, 409, "HIT")
        returned = ShapeClient(nginx.url, Subject(items))
        returned.handle, returned.offset = first.handle, "-1"
        await returned.catch_up()
        assert returned.rows == gathered.clients[0].rows
        await change(cached_tables, items, range(3, 4))
        await gathered.until_has(3)


async def test_the_first_goes_away_while_others_wait_for_its_answer(
    nginx: Nginx, cached_tables: Tables, items: str
) -> None:
    async with crowd(nginx, items) as gathered:
        await gathered.join(6)
        await change(cached_tables, items, range(1, 2))
        await gathered.until_has(1)
        *leaving, staying = gathered.clients
        for client in leaving:
            await client.stop()
        gathered.clients = [staying]
        await change(cached_tables, items, range(2, 4))
        await gathered.until_has(3)
        assert staying.counts.messages == 4


async def test_nodes_that_die_under_a_crowd(
    nginx: Nginx, cached: Serving, cached_tables: Tables, items: str
) -> None:
    """What clients are told meanwhile is that they shall try again."""
    async with crowd(nginx, items) as gathered:
        await gathered.join(10)
        for number, pid in enumerate(cached.node_pids(), 1):
            await asyncio.to_thread(cached.kill_node, pid)
            await change(cached_tables, items, range(number, number + 1))
        await gathered.until_has(2)
        for client in gathered.clients:
            assert client.counts.messages == 3, client.describe()
            assert client.counts.conflicts == client.counts.restarts == 0
            assert set(client.counts.refusals) <= {503}
