"""Asks the real @trigger.dev/core, in Node."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import orjson
from node_packages import install

CLIENTS = Path(__file__).parents[1] / "clients"
SCRIPT = Path(__file__).with_name("core.mjs")
SECONDS = 60


def judged(judge: str, cases: Iterable[Mapping[str, object]]) -> list[dict[str, Any]]:
    """What core says about each of the cases. Installs it first where it is missing."""
    node = shutil.which("node")
    assert node, "this test needs node on the PATH; `make test` installs one where there is none"
    install(CLIENTS)
    lines = b"\n".join(orjson.dumps({"judge": judge, **case}) for case in cases)
    # From its standard input, packages are looked for in the working directory.
    done = subprocess.run(
        [node, "--input-type=module", "--eval", SCRIPT.read_text()],
        cwd=CLIENTS,
        input=lines,
        stdout=subprocess.PIPE,
        timeout=SECONDS,
        check=True,
    )
    return [orjson.loads(line) for line in done.stdout.splitlines()]
