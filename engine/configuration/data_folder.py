"""The folder that everything of pgtide's own lies in."""

from __future__ import annotations

import errno
import tempfile
from pathlib import Path

from engine.errors import SettingsError

# A full disk is waited for: what is there is served meanwhile.
_PASSES = (errno.ENOSPC, errno.EDQUOT)


def require_data_folder(folder: Path) -> None:
    """Make it unless it is there. Raises SettingsError if nothing can be written into it."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()
    except OSError as error:
        if error.errno not in _PASSES:
            raise SettingsError(
                f"the data folder {folder.absolute()} cannot be written: {error.strerror}. Give this "
                "user the right to write there, or set PGTIDE_DATA_DIR to another folder"
            ) from error
