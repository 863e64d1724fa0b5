"""What an earlier server left running in a data folder. The caller holds the folder's lock."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import subprocess
import time
from pathlib import Path

logger = logging.getLogger(__name__)


def end_postmaster(data: Path) -> None:
    """End a postmaster that outlived the pgtide which started it; forget one that is long gone."""
    pid = _postmaster(data)
    if pid is None:
        return
    if f"-D {data} " in _command(pid):
        logger.info("ending a Postgres left over from before  pid=%d", pid)
        for number, seconds in ((signal.SIGINT, 4.0), (signal.SIGQUIT, 6.0), (signal.SIGKILL, 5.0)):
            _send(pid, number)
            if _gone_within(pid, seconds):
                break
    # The number may stay taken: by a zombie that nobody reaps, or, as happens when a container is
    # started again, by another program. Postgres would take that for a running server. Backends
    # that are still attached it finds by their shared memory, not by this file.
    (data / "postmaster.pid").unlink(missing_ok=True)


def end_backends(data: Path) -> int:
    """Kill backends that outlived their postmaster. Returns how many.

    They end by themselves when they next wait for something, so this is for those that compute on.
    Found by their working folder, which only Linux shows; elsewhere none is found.
    """
    pids = [pid for pid in _processes() if _working_folder(pid) == str(data)]
    for pid in pids:
        _send(pid, signal.SIGKILL)
    return len(pids)


def pid_file(data: Path) -> list[str]:
    """Lines of postmaster.pid: 0 process id, 3 port, 7 status. Empty if there is none."""
    try:
        return (data / "postmaster.pid").read_text(errors="replace").splitlines()
    except OSError:
        return []


def _postmaster(data: Path) -> int | None:
    lines = pid_file(data)
    return int(lines[0]) if lines and lines[0].isdigit() else None


def _runs(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return _command(pid) != ""


def _send(pid: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)


def _gone_within(pid: int, seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while _runs(pid):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


def _command(pid: int) -> str:
    """The command line; empty if the process has ended, reaped or not."""
    proc = Path("/proc", str(pid), "cmdline")
    if Path("/proc/self").exists():
        try:
            return proc.read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            return ""
    ps = subprocess.run(
        ["ps", "-ww", "-o", "command=", "-p", str(pid)], capture_output=True, check=False
    )
    return ps.stdout.decode(errors="replace")


def _processes() -> list[int]:
    try:
        return [int(name) for name in os.listdir("/proc") if name.isdigit()]
    except OSError:
        return []


def _working_folder(pid: int) -> str:
    try:
        return os.readlink(f"/proc/{pid}/cwd")
    except OSError:
        return ""
