"""Enums: labels are checked, and sort by their places."""

from __future__ import annotations

from dataclasses import replace

import pytest
from where_table import POSITIONS, TABLE, error, full_row, parse, truth

from engine.postgres.table import Table
from shapes.where import EnumLabelError, EvaluationError, WhereError, parse_where
from shapes.where.errors import UnknownLabelError


@pytest.mark.parametrize(
    ("clause", "outcome"),
    [
        ("e = 'ok'", True),
        ("'ok' <> e", False),
        ("e < 'happy'", True),
        ("e >= 'happy'", False),
        ("e BETWEEN 'sad' AND 'ok'", True),
        ("e IN ('happy', 'sad')", False),
        ("e NOT IN ('happy', NULL)", None),
        ("e = ANY ('{sad,ok}')", True),
        ("e > ALL ('{sad}')", True),
        ("'sad' = ANY (moods)", True),
        ("moods @> '{sad}'", True),
        ("moods < '{happy}'", True),
        ("moods[2] = 'happy'", True),
        ("e = ANY (moods)", False),
        ("e::text = 'ok'", True),
        ("e = 'ok'::mood", True),
        ("e = temper", False),
        ("temper < e", True),
        ("temper IS NULL", False),
        ("e IS DISTINCT FROM 'sad'", True),
        ("odd = 'it''s'", True),
        ("odd < ''", True),
    ],
)
def test_meaning(clause: str, outcome: bool | None) -> None:
    values = {"e": "ok", "moods": "{sad,happy}", "temper": "sad", "odd": "it's"}
    assert truth(clause, **values) is outcome


@pytest.mark.parametrize(
    ("clause", "message", "location"),
    [
        ("e = 'mad'", 'invalid input value for enum mood: "mad"', 4),
        ("e IN ('sad', 'Sad')", 'invalid input value for enum mood: "Sad"', 13),
        ("moods && '{sad,\"\"}'", 'invalid input value for enum mood: ""', 9),
        ("odd = 'x'", 'invalid input value for enum other."Odd": "x"', 6),
    ],
)
def test_unknown_labels(clause: str, message: str, location: int) -> None:
    with pytest.raises(EnumLabelError) as refusal:
        parse(clause)
    assert (refusal.value.message, refusal.value.location) == (message, location)


def test_parameters() -> None:
    assert parse("e = $1", "sad").sql == "(\"e\" = 'sad'::public.mood)"
    with pytest.raises(EnumLabelError):
        parse("e = $1", "glad")


def test_domains_and_schemas_in_sql() -> None:
    assert parse("temper = 'ok'").sql == "(\"temper\"::public.mood = 'ok'::public.mood)"
    assert parse("odd = 'it''s'").sql == "(\"odd\" = 'it''s'::other.\"Odd\")"


def test_different_enums_do_not_compare() -> None:
    assert (
        error("e = e2") == "At location 2: Could not select an operator overload (mood = weather)"
    )


def relabelled(labels: tuple[str, ...]) -> Table:
    columns = tuple(
        replace(one, labels=labels) if one.enum == "public.mood" else one for one in TABLE.columns
    )
    return replace(TABLE, columns=columns)


def test_a_label_that_was_added_can_be_used() -> None:
    later = relabelled(("sad", "so so", "ok", "happy"))
    assert later == TABLE
    with pytest.raises(WhereError):
        parse_where("e > 'so so'", {}, TABLE)
    test = parse_where("e > 'so so'", {}, later).compile(POSITIONS)
    assert test(full_row({"e": "ok"}))
    # What was checked before knows equality of the new label, but not its order.
    row = full_row({"e": "so so"})
    assert parse("e <> 'sad'").compile(POSITIONS)(row)
    with pytest.raises(UnknownLabelError):
        parse("e > 'sad'").compile(POSITIONS)(row)
    assert issubclass(UnknownLabelError, EvaluationError)


def test_a_label_that_was_added_between_two_clauses_of_one_form() -> None:
    assert parse("e > 'sad'").compile(POSITIONS)(full_row({"e": "ok"}))
    later = relabelled(("ok", "sad", "happy"))
    assert not parse_where("e > 'sad'", {}, later).compile(POSITIONS)(full_row({"e": "ok"}))
