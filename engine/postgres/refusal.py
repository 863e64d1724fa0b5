"""What to do about a connection that Postgres refused, or that did not come about."""

from __future__ import annotations

# Words of libpq's or the server's message, and the remedy. libpq gives nothing else: no SQLSTATE of a
# connection that was not made. The first that fits counts.
_REMEDIES = (
    (
        ("password authentication failed", "no password supplied"),
        "Correct user and password in the URL, or run: alter role … password '…'",
    ),
    (
        ("pg_hba.conf",),
        (
            "Add a line for this host, user and database to pg_hba.conf (or use sslmode=require if "
            "it allows TLS only), then run: select pg_reload_conf()"
        ),
    ),
    (
        ("does not exist",),
        "Correct the URL, or create what it names: create role … / create database …",
    ),
    (
        ("SSL", "certificate"),
        "Set sslmode in the URL, or PGTIDE_DATABASE_CA_FILE to the server's authority",
    ),
    (
        ("max_wal_senders",),
        "Run: alter system set max_wal_senders = …, and restart Postgres",
    ),
    (
        ("startup parameter",),
        "Set DATABASE_URL to the server itself, not to a connection pooler",
    ),
    (
        ("too many", "remaining connection slots"),
        "Close other connections, or: alter system set max_connections = …, and restart Postgres",
    ),
    (
        ("starting up", "shutting down", "not yet accepting connections"),
        "Wait until Postgres has started",
    ),
    (
        ("translate host name", "resolve host"),
        "Correct the host in the URL, or wait until its name is known",
    ),
)
_UNREACHABLE = "Start Postgres, or correct host and port; a firewall may be in between"


def remedy_for(refusal: str) -> str:
    """The next step, without a full stop, for the message of a failed connection."""
    for signs, remedy in _REMEDIES:
        if any(sign in refusal for sign in signs):
            return remedy
    return _UNREACHABLE
