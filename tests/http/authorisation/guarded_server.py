"""A server with every kind of key, and what there is on it to be kept from somebody."""

from __future__ import annotations

import hashlib
import http.client
import json
import re
import time
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import psycopg
from serving import Serving

KEY = "tr_dev_matrix0123456789abcdef"
ROTATED = "tr_dev_rotated0123456789abcdef"
ENDED = "tr_dev_ended00123456789abcdef"
STAGING = "tr_stg_matrix0123456789abcdef"
SIGNING, SIGNING_ENDED = "signing-key-of-the-matrix-0001", "signing-key-of-the-matrix-0000"
KID, KID_ENDED = "matrix-1", "matrix-0"
ISSUER = "https://login.matrix.example"
SECRETS = (KEY, ROTATED, ENDED, STAGING, SIGNING, SIGNING_ENDED)

TASK, OTHER_TASK = "my/task", "other-task"
TAG, OTHER_TAG = "user:1", "album"
RUN, DELAYED, FOREIGN = "run_matrix", "run_delayed", "run_foreign"
BELOW = "run_below"
"""Whose parent and root is the delayed one."""
SESSION, CHANNEL = "chat:1", "screens"
BATCH = "batch_matrix"
WAIT_TOKEN = "waitpoint_matrix"
PACKET = "0123/packet.json"
RESET_KEY = "key-to-reset"

PIECE = 12
"""Characters of a secret that must not be seen."""

_SETTLED = """'{"$trigger.headers": [["trigger-control", "turn-complete"]]}'"""
_FIELDS = f"""
insert into pgtide.batches (id, run_count, expected_count, run_ids)
    values ('{BATCH}', 1, 2, array['{RUN}']);
insert into pgtide.runs (id, task, tags, batch_id, status, payload, payload_type) values
    ('{RUN}', '{TASK}', array['{TAG}', '{OTHER_TAG}'], '{BATCH}', 'COMPLETED', '{PACKET}',
     'application/store');
insert into pgtide.runs (id, task, status, delay_until) values
    ('{DELAYED}', '{TASK}', 'DELAYED', now() + interval '1 day');
insert into pgtide.runs (id, task, status, delay_until, parent_id, root_id) values
    ('{BELOW}', '{TASK}', 'DELAYED', now() + interval '1 day', '{DELAYED}', '{DELAYED}');
insert into pgtide.runs (id, environment_id, task) values ('{FOREIGN}', 'staging', '{TASK}');
insert into pgtide.wait_tokens (id) values ('{WAIT_TOKEN}');
select pgtide.append('sessions/' || stream, {_SETTLED}::jsonb)
from unnest(array['{SESSION}/in', '{SESSION}/out', '{SESSION}/channels/{CHANNEL}/out']) as stream;
create table secrets (id int primary key, owner text not null, content text not null,
    written timestamptz not null default now());
alter table secrets replica identity full;
insert into secrets values (1, 'ann', 'of ann'), (2, 'bob', 'of bob');
create table letters (id int primary key, body text);
insert into letters values (1, 'dear');
"""


class Reply(NamedTuple):
    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


def restricted_key(*scopes: str) -> str:
    """A key with these scopes, in the form by which clients know such keys."""
    digest = hashlib.sha256(repr(("restricted", scopes)).encode()).hexdigest()
    return f"tr_dev_sk_{digest[:24]}"


def settings_file(restricted: list[tuple[str, ...]], issuer_jwk: Mapping[str, str]) -> str:
    """The settings file, in TOML, with a restricted key for each of these groups of scopes."""
    keys = "\n".join(
        f'{{ sha256 = "{hashlib.sha256(restricted_key(*scopes).encode()).hexdigest()}",'
        f" scopes = {json.dumps(list(scopes))} }},"
        for scopes in restricted
    )
    ended = hashlib.sha256(restricted_key("ended").encode()).hexdigest()
    jwk = ", ".join(f"{name} = {json.dumps(value)}" for name, value in issuer_jwk.items())
    return f"""
[environments.default]
secret_keys = [
    "{KEY}",
    {{ key = "{ROTATED}", expires_at = 2100-01-01T00:00:00Z }},
    {{ key = "{ENDED}", expires_at = 2020-01-01T00:00:00Z }},
]
restricted_keys = [
    {keys}
    {{ sha256 = "{ended}", scopes = ["admin"], expires_at = 2020-01-01T00:00:00Z }},
]
[environments.staging]
secret_keys = ["{STAGING}"]
[[signing_keys.own]]
kid = "{KID}"
secret = "{SIGNING}"
[[signing_keys.own]]
kid = "{KID_ENDED}"
secret = "{SIGNING_ENDED}"
expires_at = 2020-01-01T00:00:00Z
[[signing_keys.issuers]]
issuer = "{ISSUER}"
audience = "pgtide"
keys = [{{ {jwk} }}]
"""


@dataclass
class Guarded:
    """The server and its database. Whatever credential goes through `ask` is looked for, in the end,
    where it must not be."""

    serving: Serving
    database_url: str
    sent: set[str] = field(default_factory=set[str])
    """Every credential that was used."""
    _connection: http.client.HTTPConnection | None = None
    _used: float = 0.0

    @property
    def url(self) -> str:
        return self.serving.url

    def ask(
        self,
        method: str,
        path: str,
        credential: str | None = None,
        body: object = None,
        headers: Mapping[str, str] | None = None,
    ) -> Reply:
        """One request, on a connection that stays. `credential` is the whole authorization header;
        a text is sent as it is, everything else as JSON."""
        given = dict(headers or {})
        if credential is not None:
            given["authorization"] = credential
            self.note(credential)
        data = body.encode() if isinstance(body, str) else None
        if body is not None and data is None:
            data = json.dumps(body).encode()
            given.setdefault("content-type", "application/json")
        reply = self._send(method, path, data, given)
        if reply.status >= 400:
            secret = set[str]().union(*map(pieces_of, (*SECRETS, _told(credential or ""))))
            assert not pieces_of(reply.body.decode()) & secret, (path, reply)
        return reply

    def ask_alone(
        self,
        method: str,
        path: str,
        credential: str | None = None,
        body: object = None,
        headers: Mapping[str, str] | None = None,
    ) -> Reply:
        """The same on a connection of its own, which either of the nodes may get."""
        one = Guarded(self.serving, self.database_url, self.sent)
        with closing(one):
            return one.ask(method, path, credential, body, headers)

    def _send(
        self, method: str, path: str, data: bytes | None, headers: Mapping[str, str]
    ) -> Reply:
        parts = urlsplit(self.url)
        connection = self._connection
        # The server closes what has been idle for long.
        if connection is None or time.monotonic() - self._used > 5:
            self.close()
            connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=30)
        self._connection = None
        connection.request(method, path, data, dict(headers))
        answer = connection.getresponse()
        reply = Reply(
            answer.status,
            {name.lower(): value for name, value in answer.getheaders()},
            answer.read(),
        )
        if not answer.will_close:
            self._connection, self._used = connection, time.monotonic()
        return reply

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    # -- the database ------------------------------------------------------------------------------

    def execute(self, sql: str, *values: object) -> list[tuple[Any, ...]]:
        with psycopg.connect(self.database_url, autocommit=True) as connection:
            cursor = connection.execute(sql.encode(), values or None)
            return cursor.fetchall() if cursor.description else []

    def prepare(self) -> None:
        self.execute(_FIELDS)

    def content(self) -> list[tuple[Any, ...]]:
        """What refused requests must not have changed."""
        names = ("runs", "batches", "wait_tokens", "packets", "trigger_keys", "streams")
        rows = " union all ".join(
            f"select '{name}', count(*), md5(coalesce(string_agg(t::text, '' order by t::text), ''))"
            f" from pgtide.{name} as t"
            for name in names
        )
        return self.execute(rows)

    def wait_for(self, condition: Callable[[], bool], seconds: float) -> None:
        deadline = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < deadline, "it does not come about"
            time.sleep(0.02)

    # -- what must not be seen ---------------------------------------------------------------------

    def note(self, credential: str) -> None:
        """Remember something that must not be seen anywhere."""
        self.sent.add(credential)

    def pieces(self) -> set[str]:
        """Of all secrets, and of whatever has been noted."""
        return set[str]().union(*map(pieces_of, (*SECRETS, *map(_told, self.sent))))


_WORDS = re.compile(r"[A-Za-z0-9_-]{12,}")


def pieces_of(text: str) -> set[str]:
    """All pieces of its words that are so long that they should not be seen if they are secret."""
    return {
        word[at : at + PIECE]
        for word in _WORDS.findall(text)
        for at in range(len(word) - PIECE + 1)
    }


def _told(credential: str) -> str:
    """A credential without the header that all tokens have, which says nothing."""
    header, dot, rest = credential.partition(".")
    return rest if dot and header.startswith("eyJ") else credential
