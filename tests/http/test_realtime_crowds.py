"""Readers of the same runs are answered together, each within what its own token allows."""

from __future__ import annotations

import json
import time
from collections.abc import Generator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

from access_tokens import public_token
from back_ends import KEY, BackEnd
from raw import RawAnswer, RawConnection, connected
from run_reader import VERSIONS, RunReader

AT_MOST = 1.0
"""Seconds after its expiry in which nothing may be read with a token any more."""

COUNT = 8


class Browser:
    """Follows runs by long polls over one connection, as a browser does."""

    def __init__(self, connection: RawConnection, path: str, token: str, start: RunReader) -> None:
        self._connection = connection
        self._path = path
        self._token = token
        assert start.last is not None
        self._read_place(start.last.headers)

    def ask(self) -> None:
        pairs = {**self._place, "live": "true", "log": "full"}
        query = "&".join(f"{name}={value}" for name, value in sorted(pairs.items()))
        headers = {**VERSIONS, "host": "x", "authorization": f"Bearer {self._token}"}
        lines = [f"{name}: {value}\r\n" for name, value in headers.items()]
        request = f"GET {self._path}{query} HTTP/1.1\r\n{''.join(lines)}\r\n"
        self._connection.send(request.encode())

    def hear(self) -> tuple[RawAnswer, list[dict[str, Any]]]:
        """The answer, and the changes that it has."""
        answer = self._connection.answer()
        if answer.status == 200:
            self._read_place(answer.headers)
        text = answer.body if answer.status == 200 else b"[]"
        messages: list[dict[str, Any]] = json.loads(text)
        return answer, [one["value"] for one in messages if "value" in one]

    def leave(self) -> None:
        self._connection.socket.close()

    def _read_place(self, headers: Mapping[str, str]) -> None:
        names = {"handle": "handle", "offset": "offset", "cursor": "cursor"}
        found = {name: headers.get(f"electric-{header}") for name, header in names.items()}
        self._place = {name: value for name, value in found.items() if value}

    def change(self) -> dict[str, Any]:
        """The next change, whenever it comes."""
        while True:
            answer, changes = self.hear()
            assert answer.status == 200
            if changes:
                (found,) = changes
                return found
            self.ask()


@contextmanager
def browsers(back_end: BackEnd, path: str, tokens: Sequence[str]) -> Generator[list[Browser]]:
    """A browser for each token, up to date."""
    with ExitStack() as stack:
        found: list[Browser] = []
        for token in tokens:
            start = RunReader(back_end.url, path, key=token).sync()
            connection = stack.enter_context(connected(back_end.url))
            found.append(Browser(connection, f"{path}?", token, start))
        yield found


def tokens(scope: str, **claims: Any) -> list[str]:
    """No two are the same."""
    return [public_token(KEY, [scope], jti=str(number), **claims) for number in range(COUNT)]


def number(back_end: BackEnd, run: str, value: int) -> None:
    back_end.db.run("update pgtide.runs set number = %s where id = %s", value, run)


def test_each_token_shows_what_it_allows(back_end: BackEnd) -> None:
    run = back_end.run(tags=["crowd"], payload="secret", task="shown")
    whole = tokens(f"read:runs:{run}")
    without = tokens(f"read:runs:{run}", realtime={"skipColumns": ["number"]})
    tagged = tokens("read:tags:crowd")
    path = f"/realtime/v1/runs/{run}"
    with (
        browsers(back_end, path, whole) as all_of_it,
        browsers(back_end, path, without) as part_of_it,
        browsers(back_end, path, tagged) as by_tag,
    ):
        everybody = [*all_of_it, *part_of_it, *by_tag]
        for one in everybody:
            one.ask()
        # The first time each is new; from then on they are known.
        for value in range(1, 4):
            number(back_end, run, value)
            for one in [*all_of_it, *by_tag]:
                change = one.change()
                assert (change["id"], change["number"]) == (change["friendlyId"], str(value))
                one.ask()
            for one in part_of_it:
                assert "number" not in one.change()
                one.ask()
        # The run leaves the tag, and so the readers who see it for that alone.
        back_end.db.run("update pgtide.runs set tags = '{}', number = 9 where id = %s", run)
        for one in by_tag:
            assert set(one.change()) == {"id", "friendlyId"}
            one.ask()
        for one in all_of_it:
            assert one.change()["number"] == "9"
            one.ask()
        number(back_end, run, 10)
        for one in all_of_it:
            assert one.change()["number"] == "10"
        for one in by_tag:
            answer, changes = one.hear()
            assert (answer.status, changes) == (200, [])


def test_each_waits_as_long_as_the_own_token_lasts(back_end: BackEnd) -> None:
    run = back_end.run()
    expires = time.time() + 1.5
    scope, path = f"read:runs:{run}", f"/realtime/v1/runs/{run}"
    lasting = tokens(scope)
    with (
        browsers(back_end, path, lasting[:4]) as first,
        browsers(back_end, path, tokens(scope, exp=expires)) as short,
        browsers(back_end, path, lasting[4:]) as last,
    ):
        everybody = [*first, *short, *last]
        for one in everybody:
            one.ask()
        number(back_end, run, 1)
        for one in everybody:
            assert one.change()["number"] == "1"
            one.ask()
        for one in short:
            answer, changes = one.hear()
            assert time.time() < expires + AT_MOST
            assert changes == []
            if answer.status == 200:
                one.ask()
                answer, _ = one.hear()
            assert answer.status == 401
        assert time.time() >= expires
        number(back_end, run, 2)
        for one in [*first, *last]:
            assert one.change()["number"] == "2"


def test_those_who_waited_with_one_who_leaves_are_served(back_end: BackEnd) -> None:
    run = back_end.run()
    path = f"/realtime/v1/runs/{run}"
    with browsers(back_end, path, tokens(f"read:runs:{run}")) as everybody:
        for value in range(1, 3):
            for one in everybody:
                one.ask()
            number(back_end, run, value)
            for one in everybody:
                assert one.change()["number"] == str(value)
        for one in everybody:
            one.ask()
        leaving, staying = everybody[: COUNT // 2], everybody[COUNT // 2 :]
        for one in leaving:
            one.leave()
        number(back_end, run, 3)
        for one in staying:
            assert one.change()["number"] == "3"
