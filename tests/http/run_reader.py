"""A client of runs by hand: it keeps rows as the packages do, and checks every answer as it reads."""

from __future__ import annotations

import json
import secrets
from collections.abc import Mapping
from typing import Any

import httpx
from access_tokens import bearer
from back_ends import KEY, BackEnd
from follower import UNUSED_TLS, WAIT_SECONDS

VERSIONS = {"x-trigger-electric-version": "1.0.0-beta.1", "x-trigger-api-version": "2025-07-16"}
"""What every client of version 4 sends."""

Row = dict[str, Any]


def get(
    url: str,
    path: str,
    parameters: Mapping[str, str] | None = None,
    *,
    key: str = KEY,
    headers: Mapping[str, str] = VERSIONS,
    **more: str,
) -> httpx.Response:
    """One request on a connection of its own."""
    with httpx.Client(timeout=WAIT_SECONDS, verify=UNUSED_TLS) as http:
        query = {"log": "full", "offset": "-1", **(parameters or {}), **more}
        return http.get(f"{url}{path}", params=query, headers={**headers, **bearer(key)})


class RunReader:
    """Follows one address. `rows` are what it has been shown, by key; nothing is ever taken out."""

    def __init__(self, url: str, path: str, *, key: str = KEY, **parameters: str) -> None:
        self.url = url
        self.path = path
        self.key = key
        self.parameters = parameters
        self.rows: dict[str, Row] = {}
        self.deleted: list[str] = []
        self.changes: list[dict[str, Any]] = []
        self.schema: dict[str, dict[str, Any]] = {}
        self.last: httpx.Response | None = None
        self._position: dict[str, str] = {"offset": "-1"}
        self._cursor: str | None = None

    def sync(self) -> RunReader:
        """From the beginning until it is up to date."""
        self._position, self._cursor = {"offset": "-1"}, None
        while not self.step():
            pass
        return self

    def live(self) -> bool:
        return self.step(live=True)

    def step(self, *, live: bool = False) -> bool:
        """One request; whether the reader is up to date after it."""
        query = {**self.parameters, **self._position}
        if self._cursor is not None:
            query["cursor"] = self._cursor
        if live:
            query["live"] = "true"
        answer = self.last = get(self.url, self.path, query, key=self.key)
        assert answer.status_code == 200, (answer.status_code, answer.text)
        self._check(answer, live=live)
        self._position = {
            "handle": answer.headers["electric-handle"],
            "offset": answer.headers["electric-offset"],
        }
        self.changes = []
        for message in answer.json():
            self._apply(message)
        if "electric-up-to-date" in answer.headers:
            self._cursor = answer.headers.get("electric-cursor", self._cursor or "")
            assert answer.json()[-1]["headers"]["control"] == "up-to-date"
            return True
        return False

    @property
    def runs(self) -> dict[str, Row]:
        """The rows by the id of the run."""
        return {row["friendlyId"]: row for row in self.rows.values()}

    @property
    def row(self) -> Row:
        """The only one."""
        (row,) = self.rows.values()
        return row

    @property
    def cursor(self) -> str | None:
        return self._cursor

    def _check(self, answer: httpx.Response, *, live: bool) -> None:
        headers = answer.headers
        assert headers["content-type"].startswith("application/json")
        assert {"electric-handle", "electric-offset"} <= headers.keys()
        assert ("electric-schema" in headers) is not live
        assert not live or headers["electric-cursor"]
        assert "public" not in headers["cache-control"]
        assert headers["access-control-allow-origin"] == "*"
        if not live:
            self.schema = json.loads(headers["electric-schema"])

    def _apply(self, message: dict[str, Any]) -> None:
        operation = message["headers"].get("operation")
        if operation is None:
            return
        self.changes.append(message)
        key, value = message["key"], message["value"]
        assert set(value) <= set(self.schema)
        if operation == "insert":
            assert set(value) == set(self.schema)
            self.rows[key] = dict(value)
        elif operation == "update":
            self.rows[key].update(value)
        else:
            assert set(value) == {"id", "friendlyId"}
            self.deleted.append(value["friendlyId"])


def make_run(back_end: BackEnd, **fields: object) -> str:
    """A new run of pgtide's own table; its id."""
    run_id = f"run_{secrets.token_hex(6)}"
    values: dict[str, object] = {"id": run_id, "task": "resize", **fields}
    names = ", ".join(values)
    places = ", ".join(["%s"] * len(values))
    back_end.db.run(f"insert into pgtide.runs ({names}) values ({places})", *values.values())
    return str(values["id"])


def update_run(back_end: BackEnd, run_id: str, assignments: str) -> None:
    back_end.db.run(f"update pgtide.runs set {assignments} where id = %s", run_id)
