"""Random column types, and random values of each, as SQL. Pure but for the given generator."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from random import Random

ENUM = ("draft", "Sent out", "ünter/wegs", "done")
ENUM_TYPE = "oracle_mood"
DOMAIN_TYPE = "oracle_score"
PREPARE = f"""
    create type {ENUM_TYPE} as enum ('draft', 'Sent out', 'ünter/wegs', 'done');
    create domain {DOMAIN_TYPE} as int check (value >= -5);
"""

_WORDS = (
    "",
    " ",
    "a",
    "A",
    "b c",
    "null",
    "NULL",
    "it's",
    'say "x"',
    "back\\slash",
    "a/b//c",
    "tab\tnew\nline\r",
    "\x01\x02\x1f\x7f",
    "\u0085\u2028\ufeff",
    "naïve Ünï",
    "日本語",
    "🦆🏳️‍🌈",
    "e\u0301",
    "{a,b}",
    "%_",
    "$1",
    "0",
    "-1",
    "ß",
    "\ue000\U0010ffff",
    "0x",
)

Draw = Callable[[Random], str]


def quote(text: str) -> str:
    """A string literal for a server with standard_conforming_strings."""
    return "'" + text.replace("'", "''") + "'"


def word(random: Random) -> str:
    one = random.choice(_WORDS)
    return one if random.random() < 0.7 else one + random.choice(_WORDS)


def _text(random: Random) -> str:
    return quote(word(random))


def _long_text(random: Random) -> str:
    """Often long enough to be kept out of line, where an update leaves it out of the stream."""
    if random.random() < 0.4:
        return _text(random)
    unit = "".join(random.choice('abc /\\"日\n') for _ in range(20))
    return f"repeat({quote(unit)}, {random.choice((150, 400))})"


def _integer(low: int, high: int) -> Draw:
    def draw(random: Random) -> str:
        if random.random() < 0.8:
            return str(random.randint(-3, 6))
        return str(random.choice((low, high, random.randint(low, high))))

    return draw


def _numeric(random: Random) -> str:
    return random.choice(
        ("0", "1.0", "1.00", "-0.50", "3", "2.5", "'NaN'", "1e10", "99999999999999999999.000001")
    )


def _float(random: Random) -> str:
    return random.choice(
        ("0", "1", "-1.5", "0.1", "1e-300", "1e22", "'NaN'", "'Infinity'", "'-Infinity'", "3")
    )


def _small_float(random: Random) -> str:
    return random.choice(("0", "0.1", "-2.5", "'NaN'"))


def _bool(random: Random) -> str:
    return random.choice(("true", "false"))


def _moment(random: Random) -> str:
    return quote(
        random.choice(
            (
                "2026-03-01 10:20:30+00",
                "2026-03-01 12:20:30+02",
                "2024-02-29 23:59:59.999999+00",
                "1999-12-31 00:00:00-08",
                "0044-03-15 12:00:00+00 BC",
                "infinity",
                "-infinity",
                f"2026-0{random.randint(1, 9)}-11 0{random.randint(0, 9)}:00:00+00",
            )
        )
    )


def _date(random: Random) -> str:
    return quote(random.choice(("2026-03-01", "2024-02-29", "infinity", "0044-03-15 BC")))


def _time(random: Random) -> str:
    return quote(random.choice(("00:00:00", "10:20:30.5", "24:00:00", "23:59:59.999999")))


def _interval(random: Random) -> str:
    return quote(random.choice(("1 day", "24 hours", "-3 months 2 days", "90 seconds", "00:00:00")))


def _uuid(random: Random) -> str:
    return quote(f"{random.randint(0, 3):08x}-0000-4000-8000-{random.choice('0aF') * 12}")


def _json(random: Random) -> str:
    values: tuple[object, ...] = (
        None,
        1.50,
        "x/y",
        [1, {"a": None}],
        {"b": [True, 'quote"'], "a": "日本 \u0001"},
        {"progress": random.randint(0, 9), "note": word(random)},
    )
    return quote(json.dumps(random.choice(values), ensure_ascii=random.random() < 0.5))


def _bytea(random: Random) -> str:
    return f"'\\x{random.randbytes(random.choice((0, 1, 5))).hex()}'"


def _enum(random: Random) -> str:
    return quote(random.choice(ENUM))


def _inet(random: Random) -> str:
    return quote(random.choice(("10.0.0.1", "10.0.0.0/8", "::1", "fe80::/10")))


def _range(random: Random) -> str:
    return quote(random.choice(("empty", "[1,5)", "(,3]", "[2,)")))


def _array(element: Draw, type_name: str) -> Draw:
    def draw(random: Random) -> str:
        length = random.choice((0, 1, 1, 2, 3))
        values = ["null" if random.random() < 0.15 else element(random) for _ in range(length)]
        return f"array[{', '.join(values)}]::{type_name}"

    return draw


def _text_array(random: Random) -> str:
    if random.random() < 0.1:
        return "array[array['a', 'b'], array['c/d', null]]::text[]"
    return _array(_text, "text[]")(random)


@dataclass(frozen=True)
class Kind:
    """A column type; `draw` makes an SQL expression of it, never NULL.

    `filters` says how where clauses may use it: `equal` (=, <>, in), `order` (also <, >), `array`
    (any, @>), `null` (only is null). `keyable`: may be part of a primary key. `external`: its long
    values are stored out of line.
    """

    name: str
    draw: Draw
    filters: str
    keyable: bool = False
    external: bool = False

    def constant(self, random: Random) -> str:
        """The text of a value to compare with; of an array type, of its elements."""
        if self.name.startswith(("text", "varchar")):
            return word(random)
        if self.name == "int4[]":
            return str(random.randint(-3, 6))
        text = self.draw(random)
        return text[1:-1].replace("''", "'") if text.startswith("'") else text


KINDS = (
    Kind("int4", _integer(-(2**31), 2**31 - 1), "order", keyable=True),
    Kind("int8", _integer(-(2**63), 2**63 - 1), "order", keyable=True),
    Kind("int2", _integer(-(2**15), 2**15 - 1), "order"),
    Kind("text", _text, "order", keyable=True),
    Kind("text", _long_text, "order", external=True),
    Kind("varchar(40)", lambda random: f"left({_text(random)}, 40)", "order", keyable=True),
    Kind("char(5)", lambda random: f"left({_text(random)}, 5)", "null"),
    Kind("numeric", _numeric, "order", keyable=True),
    Kind("numeric(8,2)", lambda random: f"{random.randint(-999, 999) / 4}", "order"),
    Kind("float8", _float, "order"),
    Kind("float4", _small_float, "order"),
    Kind("bool", _bool, "equal"),
    Kind("timestamptz", _moment, "order", keyable=True),
    Kind("timestamp", _moment, "order"),
    Kind("date", _date, "order"),
    Kind("time", _time, "order"),
    Kind("interval", _interval, "equal"),
    Kind("uuid", _uuid, "order", keyable=True),
    Kind("jsonb", _json, "null"),
    Kind("json", _json, "null"),
    Kind("bytea", _bytea, "null"),
    Kind(ENUM_TYPE, _enum, "null", keyable=True),
    Kind(DOMAIN_TYPE, lambda random: str(random.randint(-5, 9)), "null"),
    Kind("inet", _inet, "null", keyable=True),
    Kind("int4range", _range, "null"),
    Kind("int4[]", _array(_integer(-9, 9), "int4[]"), "array"),
    Kind("text[]", _text_array, "array"),
    Kind("bool[]", _array(_bool, "bool[]"), "null"),
    Kind("timestamptz[]", _array(_moment, "timestamptz[]"), "null"),
)
