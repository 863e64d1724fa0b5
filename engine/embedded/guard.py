"""Ends Postgres when this process is gone, however it went.

The guard is a shell that reads a pipe whose other end only this process holds. The kernel closes
that end at any death, kill -9 included. A shell, because it is on every Linux and macOS, small, and
starts at once.
"""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import IO

from engine.embedded.account import ENVIRONMENT, Account

# A line means: stopped in order, nothing to do. The end of the pipe means: our process is dead.
# SIGINT disconnects clients and writes a checkpoint; SIGQUIT does not wait for anything.
_WATCH = """
if read -r line; then exit 0; fi
for signal in INT INT INT QUIT QUIT QUIT QUIT QUIT QUIT KILL; do
    kill -s $signal "$1" 2>/dev/null || exit 0
    sleep 1
done
"""
# Postgres may run only once the guard is there, so it waits for a line. exec keeps the process id.
_GATE = 'read -r line && exec "$0" "$@" </dev/null'


def launch(
    command: Sequence[str | Path], account: Account, log: IO[bytes]
) -> tuple[subprocess.Popen[bytes], Guard]:
    """Start a Postgres server and its guard, both in sessions of their own.

    So Ctrl-C at the terminal reaches neither: what is stopped when is for this process to say.
    """
    process = subprocess.Popen(
        ["/bin/sh", "-c", _GATE, *command],
        stdin=subprocess.PIPE,
        stdout=log,
        stderr=log,
        cwd="/",
        env=ENVIRONMENT,
        start_new_session=True,
        **account.identity,
    )
    guard = Guard(process.pid, account)
    assert process.stdin is not None
    with process.stdin as gate:
        gate.write(b"go\n")
    return process, guard


class Guard:
    def __init__(self, pid: int, account: Account) -> None:
        self._shell = subprocess.Popen(
            ["/bin/sh", "-c", _WATCH, "pgtide-guard", str(pid)],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            cwd="/",
            env=ENVIRONMENT,
            start_new_session=True,
            **account.identity,
        )

    def release(self) -> None:
        """Postgres has ended. Its process id may soon be another's, so the guard must go first."""
        assert self._shell.stdin is not None
        try:
            with self._shell.stdin as pipe:
                pipe.write(b"done\n")
        except BrokenPipeError:
            pass  # somebody killed the guard
        self._shell.wait()
