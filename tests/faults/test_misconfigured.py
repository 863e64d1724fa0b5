"""What pgtide says about a Postgres that is not set up for it, and that it goes on once it is."""

from __future__ import annotations

import time
from pathlib import Path

import psycopg
from postgres_choice import new_server
from serving import Serving

from engine.embedded import EmbeddedPostgres

SAID_WITHIN = 60.0
PASSWORD = "wrong-horse"


def wait_for(server: Serving, *words: str) -> None:
    """All of the words in one line of the log, soon."""
    deadline = time.monotonic() + SAID_WITHIN
    while not any(all(word in line for word in words) for line in server.log.splitlines()):
        assert time.monotonic() < deadline, f"nothing says {words}:\n{server.log}"
        time.sleep(0.05)


def test_wal_level(folder: Path, tmp_path: Path) -> None:
    postgres = new_server(folder / "postgres", options={"wal_level": "replica"})
    postgres.start()
    try:
        server = Serving(postgres.database_url, tmp_path / "pgtide", nodes=1)
        server.launch()
        try:
            wait_for(server, "wal_level", "logical", "restart")
            postgres.stop()
            postgres = new_server(folder / "postgres", postgres.port)
            postgres.start()
            server.wait_active()
        finally:
            server.stop()
        server.check_log()
    finally:
        postgres.remove()


def test_role_without_replication(database: str, tmp_path: Path) -> None:
    with psycopg.connect(database, autocommit=True) as admin:
        name = f"plain_{admin.info.dbname}"
        admin.execute(f"create role {name} login".encode())
        admin.execute(f"grant create on database {admin.info.dbname} to {name}".encode())
        server = Serving(database.replace("postgres@", f"{name}@"), tmp_path / "pgtide", nodes=1)
        server.launch()
        try:
            wait_for(server, "REPLICATION", "alter role")
            admin.execute(f"alter role {name} replication".encode())
            server.wait_active()
        finally:
            server.kill()
            admin.execute("select pg_terminate_backend(pid, 5000) from pg_stat_replication")
            admin.execute(f"drop owned by {name}".encode())
            admin.execute(f"drop role {name}".encode())
        server.check_log()


def test_wrong_password(own_postgres: EmbeddedPostgres, tmp_path: Path) -> None:
    rules = own_postgres.directory / "data/pg_hba.conf"
    rules.write_text(f"host all guarded 127.0.0.1/32 scram-sha-256\n{rules.read_text()}")
    with psycopg.connect(own_postgres.database_url, autocommit=True) as admin:
        admin.execute("select pg_reload_conf()")
        admin.execute("create role guarded login superuser password 'right-horse'")
        url = own_postgres.database_url.replace("postgres@", f"guarded:{PASSWORD}@")
        server = Serving(url, tmp_path / "pgtide", nodes=1, log_level="debug")
        server.launch()
        try:
            wait_for(
                server, " ERROR ", "password authentication failed", "Correct user and password"
            )
            # What stays the same is not repeated at each attempt.
            wait_for(server, " DEBUG ", "password authentication failed", "guarded")
            assert server.log.count(" ERROR engine  replication stopped") == 1
            admin.execute(f"alter role guarded password '{PASSWORD}'".encode())
            server.wait_active()
        finally:
            server.stop()
        server.check_log()
        assert PASSWORD not in server.log
