"""Connection URLs with what the other settings say about connections. Looks whether a file is there."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from engine.errors import SettingsError
from engine.postgres import database_url as urls


def complete_url(name: str, values: Mapping[str, Any]) -> str:
    """The URL `values[name]` with the CA file and TCP settings as libpq parameters.

    Raises SettingsError.
    """
    url: str = values[name]
    mode = urls.ssl_mode(url)
    if mode is not None and mode not in urls.SSL_MODES:
        raise SettingsError(f"{name}: sslmode={mode} is unknown: use {', '.join(urls.SSL_MODES)}")
    added: dict[str, str] = {}
    override: dict[str, str] = {}
    ca_file: Path | None = values.get("database_ca_file")
    if ca_file is not None:
        if not ca_file.is_file():
            raise SettingsError(f"database_ca_file: {ca_file} is not a file; give the PEM's path")
        if mode == "disable":
            raise SettingsError(
                f"{name}: sslmode=disable excludes database_ca_file; use sslmode=require"
            )
        added["sslrootcert"] = str(ca_file.absolute())
        if mode in (None, "allow", "prefer"):
            override["sslmode"] = "verify-full"
    for parameter, field, unit in (
        ("keepalives_idle", "database_tcp_keepalive_idle", 1),
        ("keepalives_interval", "database_tcp_keepalive_interval", 1),
        ("keepalives_count", "database_tcp_keepalive_count", 1),
        ("tcp_user_timeout", "database_tcp_user_timeout", 1000),
    ):
        if field in values:
            added[parameter] = str(max(1, round(values[field] * unit)))
    return urls.complete(url, added, override)
