"""What `pgtide dev` has for back ends on the same machine: a secret key, and a file that names all."""

from __future__ import annotations

import os
import secrets
from collections.abc import Generator
from contextlib import contextmanager, suppress
from pathlib import Path

from engine.configuration.settings import Settings
from engine.errors import SettingsError

FILE = "dev.env"
PREFIX = "tr_dev_"
"""By it Trigger.dev's SDK knows a key that signs tokens itself, unlike `tr_dev_sk_…`."""


def secret_key(folder: Path) -> str:
    """The key that lies in the folder, readable for its owner alone; made when it is first asked for.

    Raises SettingsError if the file cannot be read or written.
    """
    path = folder / "secret_key"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if not path.exists():
            _write(path, PREFIX + secrets.token_hex(16) + "\n")
        key = path.read_text().strip()
    except OSError as error:
        raise SettingsError(f"the key in {path} cannot be used: {error.strerror}") from error
    if not key.startswith(PREFIX):
        raise SettingsError(f"{path} holds no key: delete it, and the next start makes one")
    return key


def greet(key: str, url: str, settings: Settings) -> None:
    """Say how a back end gets to what is served at `url`, here and in the file `dev.env`."""
    path = settings.data_dir / FILE
    variables = {
        "DATABASE_URL": settings.database_url or "",
        "TRIGGER_API_URL": url,
        "TRIGGER_SECRET_KEY": key,
    }
    lines = [f"{name}='{value}'\n" for name, value in variables.items()]
    try:
        _write(path, _mark() + "".join(lines))
        where = f"in {path}"
    except OSError as error:
        where = f"{path} cannot be written: {error.strerror}"
    print(f"Back ends: TRIGGER_API_URL={url} TRIGGER_SECRET_KEY={key}  ({where})", flush=True)


@contextmanager
def no_file_left(folder: Path) -> Generator[None]:
    """Before and after this there is no such file: what it names would soon be somebody else's.

    Afterwards one of another process, which has taken over, stays.
    """
    path = folder / FILE
    with suppress(OSError):
        path.unlink()
    try:
        yield
    finally:
        with suppress(OSError):
            if path.read_text().startswith(_mark()):
                path.unlink()


def _mark() -> str:
    return f"# of pgtide dev, process {os.getpid()}\n"


def _write(path: Path, text: str) -> None:
    """Put a file there as a whole, for nobody else's eyes."""
    fresh = path.with_name(f".{path.name}.{os.getpid()}")
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(text)
    fresh.replace(path)
