"""Answers that have to be waited for, until the credential has ended."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextlib import closing

import psycopg
from credentials import local
from guarded_server import Guarded, Reply


def while_locked(
    guarded: Guarded,
    table: str,
    scope: str,
    ask: Callable[[Guarded, str], Reply],
    seconds: float,
) -> Reply:
    """The answer to a request that cannot read the table before its token ends, which lasts so long."""
    replies: list[Reply] = []

    def ask_alone() -> None:
        with closing(Guarded(guarded.serving, guarded.database_url, guarded.sent)) as one:
            replies.append(ask(one, credential))

    with psycopg.connect(guarded.database_url) as connection:
        connection.execute(f"lock table {table} in access exclusive mode".encode())
        ends = time.time() + seconds
        credential = f"Bearer {local(scope, exp=ends)}"
        asking = threading.Thread(target=ask_alone)
        asking.start()
        waiting = "select pid from pg_stat_activity where wait_event_type = 'Lock'"
        guarded.wait_for(lambda: bool(guarded.execute(waiting)) or bool(replies), 20)
        guarded.wait_for(lambda: time.time() > ends, 20)
    asking.join()
    return replies[0]
