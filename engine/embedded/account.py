"""Who the embedded Postgres runs as. Postgres refuses to run as root."""

from __future__ import annotations

import os
import pwd
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import TypedDict

PREFERRED = ("postgres", "nobody")
LAST_RESORT = 65534


class Identity(TypedDict, total=False):
    """Arguments of subprocess.Popen."""

    user: int
    group: int
    extra_groups: list[int]


@dataclass(frozen=True, slots=True)
class Account:
    """`switch` is True if children have to change to it, which only root can do."""

    uid: int
    gid: int
    switch: bool

    @property
    def identity(self) -> Identity:
        if not self.switch:
            return {}
        return {"user": self.uid, "group": self.gid, "extra_groups": []}

    def run(self, *command: str | Path) -> subprocess.CompletedProcess[str]:
        """Run as this account with an environment that nothing of ours or the user's leaks into.

        A program that this account may not start gives return code 126, as in a shell.
        """
        try:
            return subprocess.run(
                [str(word) for word in command],
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                errors="replace",
                check=False,
                cwd="/",
                env=ENVIRONMENT,
                **self.identity,
            )
        except OSError as error:
            return subprocess.CompletedProcess(command, 126, "", str(error))

    def reaches(self, folder: Path) -> bool:
        return self.run("/bin/sh", "-c", 'test -x "$1"', "sh", folder).returncode == 0


# Messages are matched, so they must not be translated. Everything else of the server is on its
# command line.
ENVIRONMENT = {"PATH": "/usr/bin:/bin:/usr/sbin:/sbin", "LC_ALL": "C"}


def account_for(data: Path) -> Account:
    """The account for a data folder: its owner if that is not root, so that nobody loses theirs."""
    if os.geteuid() != 0:
        return Account(os.geteuid(), os.getegid(), switch=False)
    if data.exists() and data.stat().st_uid != 0:
        return Account(data.stat().st_uid, data.stat().st_gid, switch=True)
    for name in PREFERRED:
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            continue
        return Account(entry.pw_uid, entry.pw_gid, switch=True)
    return Account(LAST_RESORT, LAST_RESORT, switch=True)


def give(path: Path, account: Account) -> None:
    """Make `path` and everything in it belong to `account`. Symbolic links are not followed."""
    if not account.switch:
        return
    for folder, folders, files in os.walk(path):
        for name in (*folders, *files):
            os.lchown(os.path.join(folder, name), account.uid, account.gid)
    os.lchown(path, account.uid, account.gid)
