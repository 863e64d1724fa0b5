"""Random where clauses over a table with columns of every type that clauses can speak of."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from random import Random

CREATE_TABLE = """
create type mood as enum ('sad', 'ok', 'happy');
create domain small as integer;
create domain label as text;
create table everything (
    id integer primary key,
    i2 smallint, i4 integer, i8 bigint, n numeric, f4 real, f8 double precision, b boolean,
    tc text collate "C", td text, vc varchar(12) collate "C", ch char(4) collate "C", nm name,
    u uuid, d date, ts timestamp, tz timestamptz, tm time, iv interval, e mood,
    ds small, dl label collate "C", j jsonb, by bytea, "Odd ""Name" text collate "POSIX",
    ta text[], va varchar[], ia integer[], na numeric[], fa float8[], ba boolean[], da date[],
    ca char(4)[], ea mood[]
)
"""

_INTEGERS = ("0", "1", "-1", "2", "5", "7", "32767", "-32768")
_TEXTS = (
    *("", "a", "b", "A", "ab", "a b", "é", "日本", "😀", "ﬀ", "a%b", "a_b", "a\\b", "it's", " "),
    *("1", "true", "NULL", 'q"q', "{x}", "a,b", "z ", "\t", "ab\n"),
)
_DATES = (
    *("2026-01-01", "2025-12-31", "1999-02-28", "infinity", "-infinity", "0044-03-15 BC"),
    *("2000-01-01", "12026-05-06", "4713-01-01 BC", "0001-01-01"),
)
_MOMENTS = (
    *("2026-01-01 00:00:00", "2026-01-01 10:20:30.5", "2025-12-31 23:59:59.999999", "infinity"),
    *("-infinity", "0044-03-15 01:02:03 BC", "12026-05-06 07:08:09", "2000-01-01 00:00:00"),
)
_TIMES = ("00:00:00", "10:20:30", "10:20:30.000001", "24:00:00", "23:59:59.999999")
_INTERVALS = (
    *("P1M", "P30D", "PT24H", "P1D", "PT0S", "P-1D", "P1DT-24H", "P1Y2M3DT4H5M6.7S", "PT-0.5S"),
    *("1 day", "24:00:00", "1 year 2 months", "-00:00:00.5", "1.5 hours", "-0.5 days"),
)
_UUIDS = (
    *("11111111-2222-3333-4444-555555555555", "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11"),
    *("A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11", "{a0eebc999c0b4ef8bb6d6bb9bd380a11}"),
)
_NUMERICS = (
    *("0", "1", "1.0", "1.00", "-1.5", "0.1", "NaN", "Infinity", "-Infinity", "1e20", "5e-7"),
    *("123456789012345678901234567890.123456789", "9007199254740993", "2.5", "-0"),
)
_FLOATS = (
    *("0", "-0", "1", "0.1", "1.5", "NaN", "Infinity", "-Infinity", "1e-5", "1e15", "123456.7"),
    *("9007199254740993", "1e20", "16777217", "1.17549e-38"),
)

POOLS: dict[str, tuple[str, ...]] = {
    "int2": _INTEGERS,
    "int4": (*_INTEGERS, "2147483647", "-2147483648", "100000"),
    "int8": (*_INTEGERS, "2147483648", "9223372036854775807", "9007199254740993"),
    "numeric": _NUMERICS,
    "float4": _FLOATS,
    "float8": (*_FLOATS, "1e300", "2.2250738585072014e-308", "0.1000000014901161"),
    "bool": ("true", "false", "t", "f", "yes", "off", "1"),
    "text": _TEXTS,
    "varchar": tuple(one for one in _TEXTS if len(one) < 12),
    "bpchar": ("", "a", "a ", "ab", "ab  ", "é", "b", "A"),
    "name": tuple(one for one in _TEXTS if one.isascii()),
    "uuid": _UUIDS,
    "date": _DATES,
    "timestamp": (*_MOMENTS, "2026-01-01T00:00:00Z", "2026-01-01"),
    "timestamptz": (
        *_MOMENTS,
        "2026-01-01T00:00:00Z",
        "2026-01-01 02:00:00+02",
        "2026-01-01 15:50:30.5+05:30",
    ),
    "time": _TIMES,
    "interval": _INTERVALS,
    "mood": ("sad", "ok", "happy"),
    "jsonb": ("{}", '{"a": 1}', "null"),
    "bytea": ("\\x00ff", "\\x"),
    "text[]": ("{}", "{a,b}", '{"a b",NULL, x }', "{{a,b},{c,d}}", '{"a\\"b",""}', "{a\\,b}"),
    "int4[]": ("{}", "{1}", "{1,NULL,-3}", "{{1},{2}}", " { 1 , 2 } "),
}

_SCALARS = """
i2:int2 i4:int4 i8:int8 n:numeric f4:float4 f8:float8 b:bool tc:text td:text vc:varchar ch:bpchar
nm:name u:uuid d:date ts:timestamp tz:timestamptz tm:time iv:interval e:mood ds:int4 dl:text
j:jsonb by:bytea
"""
_LISTS = "ta:text va:varchar ia:int4 na:numeric fa:float8 ba:bool da:date ca:bpchar ea:mood"


def _by_name(text: str) -> dict[str, str]:
    pairs = (one.partition(":") for one in text.split())
    return {name: type_ for name, _, type_ in pairs}


COLUMNS = {**_by_name(_SCALARS), 'Odd "Name': "text"}
ARRAYS = _by_name(_LISTS)

_FAMILIES = (
    ("int2", "int4", "int8", "numeric", "float4", "float8"),
    ("text", "varchar", "bpchar", "name"),
    ("date", "timestamp", "timestamptz"),
    ("bool",),
    ("uuid",),
    ("time",),
    ("interval",),
)
_CASTS = (
    *("int2", "int4", "int8", "numeric", "float4", "float8", "bool", "text", "varchar", "uuid"),
    *("date", "timestamp", "timestamptz", "time"),
)
_TYPE_NAMES = {
    "int4": "integer",
    "float8": "double precision",
    "timestamptz": "timestamp with time zone",
}


def literal(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def array_text(elements: Sequence[str | None]) -> str:
    """An array literal; elements are quoted whether they need it or not."""
    parts = (
        "NULL" if one is None else '"' + one.replace("\\", "\\\\").replace('"', '\\"') + '"'
        for one in elements
    )
    return "{" + ",".join(parts) + "}"


def random_row(random: Random) -> list[str | None]:
    """Literals for all columns but the id, in table order."""
    texts = [random_value(random, type_) for type_ in COLUMNS.values()]
    texts += [random_array(random, type_) for type_ in ARRAYS.values()]
    return [None if random.random() < 0.15 else text for text in texts]


def random_value(random: Random, type_: str) -> str:
    """Mostly one that is known to be special."""
    if random.random() < 0.6:
        return random.choice(POOLS[type_])
    if type_ in ("numeric", "float4", "float8"):
        digits = "".join(random.choices("0123456789", k=random.choice((1, 2, 4, 9, 15))))
        point = random.randrange(len(digits) + 1)
        return f"{random.choice(('', '-'))}{digits[:point] or '0'}.{digits[point:]}0"
    if type_ in ("int4", "int8"):
        return str(random.randrange(-(10 ** random.choice((1, 3, 9))), 2**31))
    if type_ in ("text", "varchar"):
        return "".join(random.choices(_LETTERS, k=random.randrange(9)))
    return random.choice(POOLS[type_])


_LETTERS = "aAbB éÉßẞſıİσςΣÀ%_\\1ǅ\U00010400\u1e9e"


def random_array(random: Random, type_: str) -> str:
    """Mostly of one dimension; some of two, or with bounds of their own."""
    kind = random.random()
    if kind < 0.1:
        rows = [[random.choice((*POOLS[type_], None)) for _ in range(2)] for _ in range(2)]
        return "{" + ",".join(map(array_text, rows)) + "}"
    elements = random_elements(random, type_)
    bounds = f"[0:{len(elements) - 1}]=" if elements and kind < 0.2 else ""
    return bounds + array_text(elements)


def mutated(random: Random, type_: str) -> str:
    """A text that may or may not be a constant of a type."""
    text = random.choice(POOLS[type_])
    for _ in range(random.choice((0, 1, 1, 2))):
        place = random.randrange(len(text) + 1)
        other = random.choice(_ODD_CHARACTERS)
        text = text[:place] + random.choice((other, "")) + text[place + random.choice((0, 1)) :]
    return text


_ODD_CHARACTERS = (*'0129 -+.:eEtTzZNPDMYHS{}_xob,é\t"\\', "infinity", " BC", "+05", "00", "day")


def random_elements(random: Random, type_: str) -> list[str | None]:
    pool = (*POOLS[type_], None)
    return [random.choice(pool) for _ in range(random.choice((0, 1, 1, 2, 3)))]


@dataclass
class Clauses:
    """Makes clauses. `params` are those of the clause made last, by number."""

    random: Random
    params: dict[int, str] = field(default_factory=dict[int, str])

    def make(self) -> str:
        self.params = {}
        return self.boolean(self.random.choice((0, 0, 1, 2, 3)))

    def boolean(self, depth: int) -> str:
        if depth == 0:
            return self._spaced(self._leaf())
        kind = self.random.choice(("and", "or", "and", "or", "not", "is", "value"))
        if kind == "not":
            return f"NOT ({self.boolean(depth - 1)})"
        if kind == "is":
            test = self.random.choice(("TRUE", "FALSE", "UNKNOWN", "NOT TRUE", "NOT FALSE", "NULL"))
            return f"({self.boolean(depth - 1)}) IS {test}"
        if kind == "value":
            operator = self.random.choice(("=", "<>", "<", "IS DISTINCT FROM"))
            return f"({self.boolean(depth - 1)}) {operator} ({self.boolean(depth - 1)})"
        parts = [f"({self.boolean(depth - 1)})" for _ in range(self.random.choice((2, 2, 3)))]
        return f" {kind} ".join(parts)

    def _spaced(self, text: str) -> str:
        return self.random.choice(("{}", "{}", "({})", " ( {} ) ", "{} -- end\n")).format(text)

    def _leaf(self) -> str:
        leaves: tuple[Callable[[], str], ...] = (
            self._comparison,
            self._comparison,
            self._comparison,
            self._list,
            self._between,
            self._null_test,
            self._distinct,
            self._quantified,
            self._in_array,
            self._array_operator,
            self._pattern,
            self._cast,
            self._constants,
            self._length,
        )
        return self.random.choice(leaves)()

    # -- operands ----------------------------------------------------------------------------------

    def constant(self, type_: str) -> str:
        """A constant that is meant for a value of a type, written in one of many ways."""
        text = self.random.choice(POOLS[type_])
        kind = self.random.random()
        if kind < 0.3:
            number = len(self.params) + 1
            self.params[number] = text
            return f"${number}"
        if kind < 0.5 and type_ in ("int2", "int4", "int8", "numeric", "float4", "float8"):
            return text if text.strip("-").replace(".", "", 1).isdigit() else literal(text)
        if kind < 0.65 and type_ != "mood":
            return f"{literal(text)}::{type_}"
        if kind < 0.7 and type_ not in ("mood", "name"):
            return f"cast({literal(text)} as {_TYPE_NAMES.get(type_, type_)})"
        if kind < 0.73:
            return "NULL"
        if kind < 0.78:
            escaped = text.replace("\\", "\\\\").replace("'", "\\'")
            return f"E'{escaped}'"
        return literal(text)

    def column(self, types: Sequence[str]) -> str:
        name = self.random.choice([name for name, type_ in COLUMNS.items() if type_ in types])
        if name.isalnum() and self.random.random() < 0.8:
            return self.random.choice((name, name.upper()))
        return '"' + name.replace('"', '""') + '"'

    def _family(self) -> Sequence[str]:
        return self.random.choice(_FAMILIES)

    def _operand(self, family: Sequence[str]) -> str:
        if self.random.random() < 0.25:
            return self.column(family)
        return self.constant(self.random.choice(family))

    def _column_and_constant(self) -> tuple[str, str]:
        name = self.random.choice([one for one, type_ in COLUMNS.items() if type_ not in _OPAQUE])
        return '"' + name.replace('"', '""') + '"', COLUMNS[name]

    # -- leaves ------------------------------------------------------------------------------------

    def _comparison(self) -> str:
        operator = self.random.choice(("=", "=", "<>", "!=", "<", "<=", ">", ">="))
        if self.random.random() < 0.6:
            column, type_ = self._column_and_constant()
            sides = [column, self.constant(type_)]
            self.random.shuffle(sides)
            return f"{sides[0]} {operator} {sides[1]}"
        family = self._family()
        return f"{self.column(family)}{operator}{self._operand(family)}"

    def _list(self) -> str:
        negation = self.random.choice(("", "", "NOT "))
        if self.random.random() < 0.6:
            column, type_ = self._column_and_constant()
            items = [self.constant(type_) for _ in range(self.random.choice((1, 2, 3, 12)))]
        else:
            family = self._family()
            column = self.column(family)
            items = [self._operand(family) for _ in range(self.random.choice((1, 2, 3)))]
        return f"{column} {negation}IN ({', '.join(items)})"

    def _between(self) -> str:
        family = self._family()
        negation = self.random.choice(("", "NOT "))
        symmetric = self.random.choice(("", "", "SYMMETRIC "))
        low, high = self._operand(family), self._operand(family)
        return f"{self._operand(family)} {negation}BETWEEN {symmetric}{low} AND {high}"

    def _null_test(self) -> str:
        name = self.random.choice((*COLUMNS, *ARRAYS))
        name = '"' + name.replace('"', '""') + '"'
        return name + self.random.choice((" IS NULL", " IS NOT NULL", " ISNULL", " NOTNULL"))

    def _distinct(self) -> str:
        family = self._family()
        negation = self.random.choice(("", "NOT "))
        return f"{self._operand(family)} IS {negation}DISTINCT FROM {self._operand(family)}"

    def _quantified(self) -> str:
        """A constant or a column against an array column."""
        array, type_ = self.random.choice(list(ARRAYS.items()))
        left = self.constant(type_) if self.random.random() < 0.8 else self._operand((type_,))
        operator = self.random.choice(("=", "=", "=", "<>", "<", ">="))
        return f"{left} {operator} {self.random.choice(('ANY', 'any', 'ALL', 'SOME'))} ({array})"

    def _in_array(self) -> str:
        """A column against a constant array."""
        column, type_ = self._column_and_constant()
        if type_ == "mood":
            column, type_ = f"{column}::text", "text"
        operator = self.random.choice(("=", "=", "=", "<>", "<", ">="))
        quantifier = self.random.choice(("ANY", "ALL"))
        return f"{column} {operator} {quantifier} ({self._constant_array(type_)})"

    def _constant_array(self, type_: str) -> str:
        elements = random_elements(self.random, type_)
        kind = self.random.random()
        if kind < 0.4:
            number = len(self.params) + 1
            self.params[number] = array_text(elements)
            return f"${number}"
        if kind < 0.7:
            return literal(array_text(elements))
        items = ("NULL" if one is None else literal(one) for one in elements)
        return f"ARRAY[{', '.join(items)}]::{type_}[]"

    def _array_operator(self) -> str:
        array, type_ = self.random.choice(list(ARRAYS.items()))
        if type_ == "mood":
            array, type_ = "ta", "text"
        operator = self.random.choice(("@>", "<@", "&&", "=", "<>"))
        other = array if self.random.random() < 0.1 else self._constant_array(type_)
        sides = [array, other]
        self.random.shuffle(sides)
        return f"{sides[0]} {operator} {sides[1]}"

    def _pattern(self) -> str:
        pool = (
            "%",
            "a%",
            "%b",
            "a_b",
            "%a%",
            "a\\%b",
            "",
            "_",
            "%\\_%",
            "A%",
            "é",
            "%  %",
            "%b%a%",
        )
        column = self.column(("text", "varchar", "name"))
        operator = self.random.choice(("LIKE", "NOT LIKE", "~~", "!~~"))
        if self.random.random() < 0.2:
            column, operator = 'td COLLATE "C"', self.random.choice(("ILIKE", "NOT ILIKE"))
        pattern = self.random.choice(pool)
        if self.random.random() < 0.1:
            return f"{column} {operator} {self.column(('text',))}"
        return f"{column} {operator} {literal(pattern)}"

    def _cast(self) -> str:
        column, _ = self._column_and_constant()
        target = self.random.choice(_CASTS)
        operator = self.random.choice(("=", "<>", "="))
        return f"{column}::{target} {operator} {self.constant(target)}"

    def _constants(self) -> str:
        family = self._family()
        type_ = self.random.choice(family)
        operator = self.random.choice(("=", "<>", "<"))
        return f"{self.constant(type_)} {operator} {literal(POOLS[type_][0])}::{type_}"

    def _length(self) -> str:
        function = self.random.choice(("length", "char_length"))
        column = self.column(("text", "varchar", "bpchar", "name"))
        return f"{function}({column}) > {self.random.choice((0, 1, 2))}"


_OPAQUE = frozenset(("jsonb", "bytea"))
