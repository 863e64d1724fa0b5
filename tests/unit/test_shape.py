"""Shapes: their identity, their handles, and how their columns are described."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Any

import orjson
import pytest
from log_builder import INT8, TEXT, Elsewhere, shape, table

from engine.postgres.table import Column, Table
from shapes.shape import Handle, Projection, Shape, make_shape, new_generation
from shapes.where import parse_where

# -- the schema header -----------------------------------------------------------------------------


def column(name: str, **options: Any) -> Column:
    return Column("c", name, 0, base=name, **options)


def described(*columns: Column) -> dict[str, Any]:
    header = Projection(Table(1, "public", "t", columns), columns, False).schema_header
    assert header.isascii()
    return orjson.loads(header)


def numeric(precision: int, scale: int) -> int:
    """The modifier that Postgres makes of numeric(precision, scale)."""
    return ((precision << 16) | (scale & 0x7FF)) + 4


def interval(mask: int = 0x7FFF, precision: int = 0xFFFF) -> int:
    return (mask << 16) | precision


YEAR, MONTH, DAY, HOUR, MINUTE, SECOND = (1 << bit for bit in (2, 1, 3, 10, 11, 12))


@pytest.mark.parametrize(
    ("name", "modifier", "facts"),
    [
        *((name, -1, {}) for name in ("int8", "text", "varchar", "bpchar", "bit", "varbit")),
        *((name, -1, {}) for name in ("numeric", "timestamptz", "interval", "my_enum")),
        ("varchar", 255 + 4, {"max_length": 255}),
        ("bpchar", 4 + 4, {"length": 4}),
        ("bit", 3, {"length": 3}),
        ("varbit", 8, {"length": 8}),
        ("numeric", numeric(6, 2), {"precision": 6, "scale": 2}),
        ("numeric", numeric(1000, 0), {"precision": 1000, "scale": 0}),
        ("numeric", numeric(3, -5), {"precision": 3, "scale": -5}),
        ("numeric", numeric(3, -1000), {"precision": 3, "scale": -1000}),
        ("numeric", numeric(3, 1000), {"precision": 3, "scale": 1000}),
        ("time", 3, {"precision": 3}),
        ("timetz", 6, {"precision": 6}),
        ("timestamp", 1, {"precision": 1}),
        ("timestamptz", 0, {}),
        ("interval", interval(YEAR), {"fields": "YEAR"}),
        ("interval", interval(MONTH), {"fields": "MONTH"}),
        ("interval", interval(DAY), {"fields": "DAY"}),
        ("interval", interval(HOUR), {"fields": "HOUR"}),
        ("interval", interval(MINUTE), {"fields": "MINUTE"}),
        ("interval", interval(SECOND), {"fields": "SECOND"}),
        ("interval", interval(YEAR | MONTH), {"fields": "YEAR TO MONTH"}),
        ("interval", interval(DAY | HOUR), {"fields": "DAY TO HOUR"}),
        ("interval", interval(DAY | HOUR | MINUTE | SECOND), {"fields": "DAY TO SECOND"}),
        ("interval", interval(SECOND, 2), {"fields": "SECOND", "precision": 2}),
        ("interval", interval(precision=3), {"precision": 3}),
        ("interval", interval(precision=0), {"precision": 0}),
        ("vector", 384, {"type_mod": 384}),
        ("geometry", 0, {"type_mod": 0}),
    ],
)
def test_types_and_modifiers(name: str, modifier: int, facts: dict[str, Any]) -> None:
    assert described(column(name, modifier=modifier)) == {"c": {"type": name, **facts}}


def test_arrays() -> None:
    assert described(column("int4", dims=2)) == {"c": {"type": "int4", "dims": 2}}
    array = column("varchar", dims=1, modifier=12)
    assert described(array) == {"c": {"type": "varchar", "dims": 1, "max_length": 8}}


def test_keys_and_nulls() -> None:
    first = Column("a", "int8", 20, key_index=1, not_null=True)
    second = Column("b", "text", 25, key_index=0, not_null=True)
    third = Column("c", "text", 25, not_null=True)
    assert described(first, second, third) == {
        "a": {"type": "int8", "pk_index": 1, "not_null": True},
        "b": {"type": "text", "pk_index": 0, "not_null": True},
        "c": {"type": "text", "not_null": True},
    }


@pytest.mark.parametrize(
    "name", ["größe", "表", "😀", 'a"b', "a\\b", "tab\there", "a\x7fb", "\x01"]
)
def test_column_names_of_every_kind(name: str) -> None:
    header = Projection(table(), (Column(name, "text", 25),), True).schema_header
    assert orjson.loads(header) == {name: {"type": "text"}}
    assert all(32 <= byte < 127 for byte in header), "a header value is printable ASCII"


# -- keys ------------------------------------------------------------------------------------------


def test_the_key_is_the_primary_key_in_its_own_order() -> None:
    of = table(key=("w", "id"))
    assert [one.name for one in shape(of).projection.key_columns] == ["w", "id"]


def test_without_a_primary_key_all_columns_are_the_key_but_those_added_later() -> None:
    of = table(key=())
    assert Projection(of, of.columns, True).key_columns == of.columns
    assert [one.name for one in Projection(of, of.columns[:2], False).key_columns] == ["id", "v"]


# -- identity --------------------------------------------------------------------------------------

BASE = shape(where="v = 'a'")


def where(text: str, params: dict[int, str] | None = None) -> Shape:
    of = table()
    return make_shape(Projection(of, of.columns, False), parse_where(text, params or {}, of))


@pytest.mark.parametrize(
    "same",
    [
        shape(where="v = 'a'"),
        where("v = $1", {1: "a"}),
        where("(\"v\"='a')"),
        where("  v\n=\t'a' "),
        where("V = 'a'"),
        # What is not part of the shape: constraints and defaults of columns.
        shape(
            Table(
                1000,
                "public",
                "t",
                tuple(replace(one, not_null=True) for one in table().columns),
            ),
            "v = 'a'",
        ),
    ],
)
def test_what_is_the_same_shape(same: Shape) -> None:
    assert same.hash == BASE.hash


OTHERS = {
    "without a filter": shape(),
    "another constant": shape(where="v = 'b'"),
    "another column": shape(where="w = 'a'"),
    "a stricter filter": shape(where="v = 'a' and id > 3"),
    "another oid": shape(table(oid=1001), "v = 'a'"),
    "another name": shape(table(name="u"), "v = 'a'"),
    "another schema": shape(replace(table(), schema="s"), "v = 'a'"),
    "another key": shape(table(key=("id", "v")), "v = 'a'"),
    "another order of the key": shape(table(key=("v", "id")), "v = 'a'"),
    "one more column": shape(table(columns=(("id", INT8), ("v", TEXT), ("w", TEXT), ("x", TEXT)))),
    "another type": shape(table(columns=(("id", INT8), ("v", TEXT), ("w", INT8))), "v = 'a'"),
    "columns given": shape(where="v = 'a'", columns=("id", "v", "w")),
    "fewer columns given": shape(where="v = 'a'", columns=("id", "v")),
    "full replica": shape(where="v = 'a'", full=True),
    "changes only": make_shape(BASE.projection, BASE.condition, changes_only=True),
    "both": make_shape(BASE.projection, BASE.condition, full_replica=True, changes_only=True),
    "another modifier": shape(
        replace(table(), columns=(*table().columns[:2], replace(table().columns[2], modifier=12))),
        "v = 'a'",
    ),
}


def test_what_are_other_shapes() -> None:
    assert BASE.hash not in hashes().values()
    assert len(set(hashes().values())) == len(OTHERS)


def test_a_name_cannot_be_mistaken_for_two() -> None:
    first = shape(replace(table(name='b","c'), schema="a"))
    second = shape(replace(table(name="c"), schema='a","b'))
    assert first.hash != second.hash


def hashes() -> dict[str, int]:
    return {name: one.hash for name, one in OTHERS.items()}


def test_a_hash_is_the_same_in_every_process(elsewhere: Elsewhere) -> None:
    """Nodes agree on handles without talking to each other."""
    assert elsewhere.run(hashes) == hashes()
    assert all(0 <= one < 2**64 for one in hashes().values())


# -- handles ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("handle", [Handle(0, 0), Handle(5, 7), Handle(2**64 - 1, 2**62)])
def test_handles_print_as_they_are_read(handle: Handle) -> None:
    assert Handle.parse(str(handle)) == handle


@pytest.mark.parametrize(
    "text",
    [
        *("", "-", "5", "5-", "-5", "5-6-7", "a-5", "5-a", " 5-6", "5-6 ", "+5-6", "5-+6", "٥-6"),
        *("5_6", "/etc-1", "5-6/..", "0x5-6", "1" * 5000, "1-" + "1" * 5000),
    ],
    ids=lambda text: ascii(text[:20]),
)
def test_what_is_no_handle(text: str) -> None:
    assert Handle.parse(text) is None


@pytest.mark.parametrize("text", [f"{2**64}-1", f"5-{2**64}", "5-99999999999999999999"])
def test_numbers_that_no_handle_can_have(text: str) -> None:
    assert Handle.parse(text) is None


@pytest.mark.parametrize("text", ["05-6", "5-06"])
def test_another_spelling_is_another_handle(text: str) -> None:
    """An answer carries the handle that was asked with; two names for one would not be the same."""
    assert Handle.parse(text) is None


def test_generations_never_repeat() -> None:
    before = time.time_ns() // 1000
    first = new_generation()
    assert before <= first <= time.time_ns() // 1000
    assert new_generation(first + 10**9) == first + 10**9 + 1
