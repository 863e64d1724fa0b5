"""An embedded Postgres that another process holds, and looking at it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import psycopg

ROOT = Path(__file__).parents[2]
FAST = {"fsync": "off"}

# Starts a server as another program would, says where, and lives until killed.
HOLDER = """
import sys
from pathlib import Path
from engine.embedded import EmbeddedPostgres
server = EmbeddedPostgres(Path(sys.argv[1]), options={"fsync": "off"})
server.start()
print(server.pid, server.database_url, flush=True)
sys.stdin.read()
server.stop()
"""


def ask(url: str, query: str) -> Any:
    """The single value of `query`, autocommitted."""
    with psycopg.connect(url, autocommit=True) as connection:
        cursor = connection.execute(query.encode())
        row = cursor.fetchone() if cursor.description else None
        return row[0] if row else None


def runs(pid: int) -> bool:
    """False for a zombie, which only waits for somebody to note its end."""
    ps = subprocess.run(["ps", "-o", "stat=", "-p", str(pid)], capture_output=True, check=False)
    return ps.stdout.strip()[:1] not in (b"", b"Z")


def hold(directory: Path, script: str = HOLDER) -> tuple[subprocess.Popen[str], int, str]:
    """A process that holds a server, the postmaster's process id, and its URL."""
    holder = subprocess.Popen(
        [sys.executable, "-c", script, str(directory)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
    )
    assert holder.stdout is not None
    pid, url = holder.stdout.readline().split()
    return holder, int(pid), url
