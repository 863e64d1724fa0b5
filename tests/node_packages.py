"""The npm packages of a folder, as its package-lock.json names them."""

from __future__ import annotations

import fcntl
import json
import subprocess
from pathlib import Path
from typing import Any


def install(folder: Path) -> None:
    """Put them in place, unless they are. Of several processes at once, one does."""
    with (folder / "package-lock.json").open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        packages = json.load(lock)["packages"]
        wanted = {folder / path: one for path, one in packages.items() if _wanted(path, one)}
        if any(_version(path) != one["version"] for path, one in wanted.items()):
            subprocess.run(["npm", "ci", "--no-audit", "--no-fund"], cwd=folder, check=True)


def _wanted(path: str, package: dict[str, Any]) -> bool:
    return bool(path) and not package.get("optional")


def _version(package: Path) -> str | None:
    description = package / "package.json"
    return json.loads(description.read_text())["version"] if description.exists() else None
