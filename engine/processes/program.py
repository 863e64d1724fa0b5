"""A Python program of ours that runs as a child process."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from engine.logs import PROCESS_VARIABLE

logger = logging.getLogger(__name__)

LEAVE = signal.SIGUSR1
"""What a program is sent that has a successor. Only those may be that listen for it."""


class Program:
    """`python -m module`, in a session of its own: Ctrl-C at the terminal reaches only us."""

    def __init__(
        self,
        name: str,
        module: str,
        environ: Mapping[str, str] | None = None,
        descriptors: Sequence[int] = (),
    ) -> None:
        self.name = name
        self._module = module
        self._environ = dict(environ or {})
        self._descriptors = tuple(descriptors)
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int | None:
        """Process id, None if it does not run."""
        return self._process.pid if self._process and self._process.poll() is None else None

    def start(self) -> None:
        environ = {**os.environ, **self._environ, PROCESS_VARIABLE: self.name}
        self._process = subprocess.Popen(
            # -P: a folder called `engine` where the user happens to be must not be taken for ours.
            [sys.executable, "-P", "-m", self._module],
            env=_with_checkout(environ),
            stdin=subprocess.DEVNULL,
            pass_fds=self._descriptors,
            start_new_session=True,
        )

    def wait(self) -> int:
        """Blocks until it ends. Returns its exit code, negative for a signal."""
        return self._process.wait() if self._process else 0

    def ask_to_end(self) -> None:
        if self._process is not None:
            self._process.terminate()

    def ask_to_leave(self) -> None:
        if self._process is not None:
            self._process.send_signal(LEAVE)

    def end(self, seconds: float) -> None:
        """By force, if it has not ended within `seconds`."""
        if self._process is not None:
            try:
                self._process.wait(seconds)
            except subprocess.TimeoutExpired:
                logger.warning("%s has not ended in %.1f s: it is killed", self.name, seconds)
                self.kill()
                self._process.wait()

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()


def describe_exit(code: int) -> str:
    """`exit=1` or `signal=SIGKILL`."""
    if code >= 0:
        return f"exit={code}"
    try:
        return f"signal={signal.Signals(-code).name}"
    except ValueError:
        return f"signal={-code}"


def _with_checkout(environ: dict[str, str]) -> dict[str, str]:
    """In a checkout that is not installed, children find the packages where this one is."""
    root = Path(__file__).resolve().parents[2]
    if {"site-packages", "dist-packages"} & set(root.parts):
        return environ
    path = [str(root), *filter(None, [environ.get("PYTHONPATH")])]
    return environ | {"PYTHONPATH": os.pathsep.join(path)}
