"""The page that shows hooks (runs_page), and the runs that they show."""

from __future__ import annotations

import json
import time
from typing import Any

import httpx
import psycopg
from access_tokens import public_token
from browser import Browser
from psycopg.types.json import Jsonb
from runs_server import RunsServer

SECONDS = 60.0
"""As long as a long poll may take to begin or to end."""


class Hooks:
    """The page that shows hooks, and the runs that they show."""

    def __init__(
        self, browser: Browser, server: RunsServer, db: psycopg.Connection, page_url: str
    ) -> None:
        self.browser = browser
        self.page_url = page_url
        self._server = server
        self._db = db

    def show(self, **shown: dict[str, Any]) -> None:
        """Show these hooks, by name: {hook, args, options, context}."""
        self.browser.run(f"page.show({json.dumps(shown)})")

    def hook(self, hook: str, *args: object, token: str = "", **options: Any) -> dict[str, Any]:
        options = {"baseURL": self._server.url, "accessToken": token, **options}
        return {"hook": hook, "args": args, "options": options}

    def token(self, *scopes: str, seconds: float = 3600, **claims: Any) -> str:
        """As the SDK signs it in a back end."""
        return public_token(self._server.root_key, scopes, seconds=seconds, **claims)

    def until(self, expression: str) -> Any:
        return self.browser.until(expression)

    def state(self, name: str = "one") -> dict[str, Any]:
        return self.browser.run(f"state({name!r})")

    def run(self, **columns: Any) -> str:
        """A new run's id."""
        row = {"task": "made-by-sql", **columns}
        names, places = ", ".join(row), ", ".join(["%s"] * len(row))
        statement = f"insert into pgtide.runs ({names}) values ({places}) returning id"
        found = self._db.execute(statement.encode(), list(row.values())).fetchone()
        assert found is not None
        return found[0]

    def change(self, run: str, assignments: str, *values: object) -> None:
        statement = f"update pgtide.runs set {assignments} where id = %s"
        self._db.execute(statement.encode(), [*values, run])

    def sql(self, statement: str, *values: object) -> tuple[Any, ...] | None:
        """Its first row, if it gives any."""
        cursor = self._db.execute(statement.encode(), values)
        return cursor.fetchone() if cursor.description else None

    def ask(self, method: str, path: str, body: object = None) -> httpx.Response:
        """One request as a back end."""
        headers = {"authorization": f"Bearer {self._server.root_key}"}
        return httpx.request(method, self._server.url + path, headers=headers, json=body)

    def progress(self, run: str, value: float) -> None:
        self.change(run, "metadata = metadata || %s", Jsonb({"progress": value}))

    def finish(self, run: str) -> None:
        self.change(run, "status = 'COMPLETED', output = '7'")

    def hide(self, *, hidden: bool) -> None:
        """As if the user had gone to another tab, or come back."""
        value = "true" if hidden else "false"
        self.browser.run(
            f"Object.defineProperty(document, 'hidden', {{value: {value}, configurable: true}}),"
            " document.dispatchEvent(new Event('visibilitychange'))"
        )

    def wait(self) -> None:
        """A moment, in which something would have happened that must not happen."""
        self.browser.run("new Promise((done) => setTimeout(done, 300))")

    def polls(self) -> list[dict[str, Any]]:
        """The long polls: url, method, and status or failure if ended."""
        return [one for one in self.browser.asked("/realtime/") if "live=true" in one["url"]]

    def until_polling(self) -> None:
        """Until a long poll is under way."""
        deadline = time.monotonic() + SECONDS
        while all("status" in one or "failure" in one for one in self.polls()):
            assert time.monotonic() < deadline, self.browser.asked("/realtime/")
            time.sleep(0.02)

    def until_quiet(self) -> None:
        """Until none is."""
        deadline = time.monotonic() + SECONDS
        while any("status" not in one and "failure" not in one for one in self.polls()):
            assert time.monotonic() < deadline, self.polls()
            time.sleep(0.02)
