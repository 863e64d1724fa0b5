"""A snapshot whose first row does not come."""

from __future__ import annotations

import time
from pathlib import Path

from follower import Follower, ask
from serving import Serving
from tables import Tables

SILENCE_SECONDS = 1.5


def test_it_is_given_up(database: str, tmp_path: Path) -> None:
    tables = Tables(database)
    name = tables.make("id int primary key")
    tables.run(f"insert into {name} values (1)")
    with Serving(
        database, tmp_path / "pgtide", nodes=1, database_silence=SILENCE_SECONDS
    ) as serving:
        reader = Follower(serving.url, name).sync()
        with tables.transaction() as connection:
            connection.execute(f"lock table {name} in access exclusive mode".encode())
            begin = time.monotonic()
            answer = ask(serving.url, table=name, offset=-1, where="id > 0")
            assert SILENCE_SECONDS <= time.monotonic() - begin < 20
            assert answer.status == 503
            assert answer.error.keys() == {"message"}
            assert answer.headers["cache-control"] == "no-store"
            assert answer.headers["electric-internal-known-error"] == "true"
            assert int(answer.headers["retry-after"]) > 0
            # Whoever follows another shape of the table is served all the time.
            assert reader.step().up_to_date
        again = Follower(serving.url, name, where="id > 0").sync()
        assert again.values() == [{"id": "1"}]
    tables.close()
