"""The kinds of value a setting can have: how each is read, written and explained."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, NamedTuple, TypeVar, cast
from urllib.parse import urlsplit

from engine.configuration import quantities

T = TypeVar("T")


class ConcurrentRequests(NamedTuple):
    """How many requests are served at a time: for first snapshots, and for everything else."""

    initial: int = 300
    existing: int = 10000


DEFAULT_CONCURRENCY = ConcurrentRequests()


@dataclass(frozen=True, slots=True)
class Kind(Generic[T]):
    """`parse` raises ValueError on what it cannot use; `parse(format(value)) == value`.

    `accepts` completes the sentence "give …". `parse_milliseconds`, where it differs, reads a
    plain number as Electric's variables mean it.
    """

    metavar: str
    accepts: str
    parse: Callable[[str], T]
    format: Callable[[T], str] = str
    parse_milliseconds: Callable[[str], T] | None = None


def _integer(low: int, high: int) -> Callable[[str], int]:
    def parse(text: str) -> int:
        value = int(text)
        if not low <= value <= high:
            raise ValueError(f"out of range: {value}")
        return value

    return parse


def _matching(pattern: str) -> Callable[[str], str]:
    def parse(text: str) -> str:
        if re.fullmatch(pattern, text) is None:
            raise ValueError("does not match")
        return text

    return parse


def _postgres_url(text: str) -> str:
    parts = urlsplit(text)
    if parts.scheme not in ("postgres", "postgresql") or not text.startswith(parts.scheme + "://"):
        raise ValueError("not a postgresql:// URL")
    return text


def _concurrency(text: str) -> ConcurrentRequests:
    given: Any = json.loads(text)
    if not isinstance(given, dict):
        raise ValueError("not an object")
    limits = DEFAULT_CONCURRENCY._replace(**cast("dict[str, int]", given))
    if not all(type(limit) is int and limit > 0 for limit in limits):
        raise ValueError("not positive integers")
    return limits


def _path(text: str) -> Path:
    return Path(text).expanduser()


def _texts(text: str) -> tuple[str, ...]:
    parts = tuple(part.strip() for part in text.split(","))
    if not all(re.fullmatch(r"[\x21-\x7e]+", part) for part in parts):
        raise ValueError("empty, or not ASCII without spaces")
    return parts


def _lower(text: str) -> str:
    return text.strip().lower()


def one_of(*numbers: int) -> Kind[int]:
    def parse(text: str) -> int:
        if int(text) not in numbers:
            raise ValueError("not offered")
        return int(text)

    return Kind("N", " or ".join(map(str, numbers)), parse)


TEXT = Kind("TEXT", "text without line breaks", _matching(r"[^\r\n\0]+"))
URL = Kind("URL", "a URL like postgresql://user:password@host:5432/database", _postgres_url)
ORIGIN = Kind(
    "URL",
    "a URL like https://tide.example.com, perhaps with a path",
    _matching(r"https?://[^\s/?#@]+(/[^\s?#]*)?"),
)
IDENTIFIER = Kind(
    "NAME",
    "a lower-case name of at most 56 characters: letters, digits and _, not beginning with a digit",
    _matching(r"[a-z_][a-z0-9_]{0,55}"),
)
LEVEL = Kind(
    "LEVEL",
    "error, warning, info or debug",
    lambda text: _matching("error|warning|info|debug")(_lower(text)),
)
KEYS = Kind(
    "KEYS",
    "texts without spaces, separated by commas",
    _texts,
    ",".join,
)
FOLDER = Kind("PATH", "the path of a folder", _path)
FILE = Kind("PATH", "the path of a file", _path)
SWITCH = Kind("SWITCH", "true or false", quantities.parse_switch, quantities.format_switch)
COUNT = Kind("N", "a positive integer", _integer(1, 2**31 - 1))
SECONDS = Kind("SECONDS", "a number of seconds, an integer from 0", _integer(0, 2**31 - 1))
PORT = Kind("PORT", "a port number from 0 to 65535", _integer(0, 65535))
DURATION = Kind(
    "DURATION",
    "a duration like 250ms, 20s, 5m or 24h",
    quantities.parse_duration,
    quantities.format_duration,
    lambda text: quantities.parse_duration(text, plain_unit="ms"),
)
BYTES = Kind(
    "SIZE",
    "a size like 10485760, 512KiB, 10MiB or 8GiB",
    quantities.parse_size,
    quantities.format_size,
)
CONCURRENCY = Kind(
    "JSON",
    'JSON with positive integers, like {"initial": 300, "existing": 10000}',
    _concurrency,
    lambda limits: json.dumps(limits._asdict()),
)
