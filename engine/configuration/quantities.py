"""Durations, sizes and switches as people write them: `20s`, `10 MiB`, `true`.

Every parser raises ValueError on anything else; what a formatter gives parses back exactly.
"""

from __future__ import annotations

import re

_NUMBER = re.compile(r"(\d{1,20}(?:\.\d*)?|\.\d+)\s*([a-z]*)", re.ASCII | re.IGNORECASE)
_SECONDS = {
    **dict.fromkeys(("ms", "msec"), 0.001),
    **dict.fromkeys(("s", "sec"), 1.0),
    **dict.fromkeys(("m", "min"), 60.0),
    **dict.fromkeys(("h", "hour"), 3600.0),
    **dict.fromkeys(("d", "day"), 86400.0),
}
_BYTES = {
    **dict.fromkeys(("", "b"), 1),
    "kb": 10**3,
    "mb": 10**6,
    "gb": 10**9,
    "kib": 2**10,
    "mib": 2**20,
    "gib": 2**30,
}
_SWITCH = {
    **dict.fromkeys(("true", "1", "yes", "on"), True),
    **dict.fromkeys(("false", "0", "no", "off"), False),
}


def parse_duration(text: str, plain_unit: str = "s") -> float:
    """Seconds. A number without a suffix is in `plain_unit`."""
    number, suffix = _split(text)
    return float(number) * _SECONDS[_known(suffix or plain_unit, _SECONDS)]


def format_duration(seconds: float) -> str:
    """`20s`, `10m`, `24h`, `0.25s`: the largest unit that divides it."""
    for suffix, size in (("h", 3600), ("m", 60)):
        if seconds and seconds % size == 0:
            return f"{int(seconds // size)}{suffix}"
    return f"{int(seconds) if seconds == int(seconds) else seconds!r}s"


def parse_size(text: str) -> int:
    """Bytes. A number without a suffix is in bytes."""
    number, suffix = _split(text)
    unit = _BYTES[_known(suffix, _BYTES)]
    return int(number) * unit if number.isdigit() else round(float(number) * unit)


def format_size(size: int) -> str:
    """`8GiB`, `10MiB`, `1000`: the largest binary unit that divides it."""
    for suffix in ("GiB", "MiB", "KiB"):
        unit = _BYTES[suffix.lower()]
        if size and size % unit == 0:
            return f"{size // unit}{suffix}"
    return str(size)


def parse_switch(text: str) -> bool:
    """true/false, 1/0, yes/no, on/off in any case."""
    return _SWITCH[_known(text.strip(), _SWITCH)]


def format_switch(value: bool) -> str:
    return "true" if value else "false"


def _split(text: str) -> tuple[str, str]:
    match = _NUMBER.fullmatch(text.strip())
    if match is None:
        raise ValueError(f"not a positive number with a unit: {text!r}")
    return match[1], match[2]


def _known(word: str, words: dict[str, float] | dict[str, int] | dict[str, bool]) -> str:
    if word.lower() not in words:
        raise ValueError(f"unknown: {word!r}")
    return word.lower()
