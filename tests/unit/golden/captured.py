"""Reads the files that `capture.py` wrote."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).parent
FILES = sorted(HERE.glob("postgres*_proto*.jsonl"))

Facts = Mapping[str, Mapping[str, int]]


@dataclass(frozen=True, slots=True)
class CapturedMessage:
    """One message of the copy stream, envelope included, and the scenario's step that caused it."""

    step: str
    data: bytes
    streamed: bool


@dataclass(frozen=True, slots=True)
class Capture:
    """One file: what SQL said about the scenario, and what the server sent of it."""

    facts: Facts
    messages: tuple[CapturedMessage, ...]
    """pgoutput's, in XLogData envelopes."""
    keepalive: bytes


def read_capture(path: Path) -> Capture:
    first, *lines = map(json.loads, path.read_text().splitlines())
    messages = [
        CapturedMessage(line["name"], bytes.fromhex(line["hex"]), line["streamed"])
        for line in lines
    ]
    assert messages[-1].step == "keepalive"
    return Capture(first["facts"], tuple(messages[:-1]), messages[-1].data)
