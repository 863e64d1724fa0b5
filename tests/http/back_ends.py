"""Back ends with secret keys, and browsers with tokens, for tests of the API of runs."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import httpx
import orjson
from tables import Tables

KEY = "tr_prod_the-tests-own-key-0001"
OTHER_KEY = "tr_prod_of-another-environment-01"
SETTINGS = f"""
[environments.default]
secret_keys = ["{KEY}"]
[environments.other]
secret_keys = ["{OTHER_KEY}"]
"""


@dataclass
class BackEnd:
    """Talks to the API of a server with a key or a token. `db` is the server's database."""

    url: str
    db: Tables
    http: httpx.Client
    key: str = KEY

    def ask(
        self,
        method: str,
        path: str,
        body: Any = None,
        headers: Mapping[str, str] | None = None,
        query: Mapping[str, str] | None = None,
    ) -> httpx.Response:
        """A JSON request; `path` may be a whole URL, and then the key is not sent."""
        own = path.startswith("/")
        sent = {"authorization": f"Bearer {self.key}"} if own else {}
        url = f"{self.url}{path}" if own else path
        everything = {**sent, **(headers or {})}
        if body is None:
            return self.http.request(method, url, headers=everything, params=query)
        text = body if isinstance(body, (bytes, str)) else orjson.dumps(body)
        return self.http.request(method, url, headers=everything, params=query, content=text)

    def with_key(self, key: str) -> BackEnd:
        return BackEnd(self.url, self.db, self.http, key)

    def run(self, **columns: object) -> str:
        """A new run, written with SQL; its id."""
        values = {"id": f"run_{secrets.token_hex(8)}", "task": "t", **columns}
        places = ", ".join(["%s"] * len(values))
        statement = f"insert into pgtide.runs ({', '.join(values)}) values ({places}) returning id"
        return self.db.run(statement, *values.values())[0][0]

    def token(self, *scopes: str, **more: Any) -> BackEnd:
        """A browser with a token of these scopes."""
        answer = self.ask("POST", "/api/v1/auth/public-tokens", {"scopes": scopes, **more})
        return self.with_key(answer.json()["token"])
