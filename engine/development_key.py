"""The secret key that `pgtide dev` has by itself."""

from __future__ import annotations

import os
import secrets
from pathlib import Path

from engine.errors import SettingsError

PREFIX = "tr_dev_"
"""By it Trigger.dev's SDK knows a key that signs tokens itself, unlike `tr_dev_sk_…`."""


def development_key(folder: Path) -> str:
    """The key that lies in the folder, readable for its owner alone; made when it is first asked for.

    Raises SettingsError if the file cannot be read or written.
    """
    path = key_path(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        try:
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        except FileExistsError:
            text = path.read_text().strip()
            if text.startswith(PREFIX):
                return text
            raise SettingsError(
                f"{path} holds no key: delete it, and the next start makes one"
            ) from None
        key = PREFIX + secrets.token_hex(16)
        with os.fdopen(descriptor, "w") as file:
            file.write(key + "\n")
    except OSError as error:
        raise SettingsError(f"the key in {path} cannot be used: {error.strerror}") from error
    return key


def key_path(folder: Path) -> Path:
    return folder / "secret_key"
