"""The settings file: what is too long for an environment variable (TOML)."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from engine.errors import SettingsError

SECTIONS = ("environments", "signing_keys", "runs")


def read_config_file(path: Path | None) -> Mapping[str, Any]:
    """The file's sections by name; none without a file. Raises SettingsError."""
    if path is None:
        return {}
    try:
        with path.open("rb") as file:
            sections = tomllib.load(file)
    except OSError as error:
        raise SettingsError(f"the settings file {path} cannot be read: {error.strerror}") from error
    except tomllib.TOMLDecodeError as error:
        raise SettingsError(f"the settings file {path} is not valid TOML: {error}") from error
    unknown = sorted(set(sections) - set(SECTIONS))
    if unknown:
        raise SettingsError(
            f"the settings file {path} has unknown sections: {', '.join(unknown)}. "
            f"There are: {', '.join(SECTIONS)}"
        )
    return sections
