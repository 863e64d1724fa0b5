"""The order of subsets: what is accepted, how it is rebuilt, and what is said of the rest."""

from __future__ import annotations

import pytest
from where_table import TABLE

from shapes.where import WhereError, parse_order_by


@pytest.mark.parametrize(
    ("text", "sql"),
    [
        ("i4", '"i4" ASC NULLS LAST'),
        ("I4 desc", '"i4" DESC NULLS FIRST'),
        ('"i4" ASC NULLS FIRST, (t) desc nulls last', '"i4" ASC NULLS FIRST, "t" DESC NULLS LAST'),
        ('"Odd ""Name"', '"Odd ""Name" ASC NULLS LAST'),
        ("2 desc, 1", '"i2" DESC NULLS FIRST, "id" ASC NULLS LAST'),
        ("i4 -- ; drop table x\n", '"i4" ASC NULLS LAST'),
        ("e, tags", '"e" ASC NULLS LAST, "tags" ASC NULLS LAST'),
    ],
)
def test_rebuilt(text: str, sql: str) -> None:
    assert parse_order_by(text, TABLE.columns) == sql
    assert parse_order_by(sql, TABLE.columns) == sql


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "lower(t)",
            "At location 18: FuncCall expressions are not allowed in ORDER BY clauses",
        ),
        ("i4::text", "At location 20: TypeCast expressions are not allowed in ORDER BY clauses"),
        (
            "CAST(i4 AS text)",
            "At location 18: TypeCast expressions are not allowed in ORDER BY clauses",
        ),
        (
            "CASE WHEN b THEN 1 END",
            "At location 18: CaseExpr expressions are not allowed in ORDER BY clauses",
        ),
        (
            "i4, (select 1)",
            "At location 22: SubLink expressions are not allowed in ORDER BY clauses",
        ),
        ("i4 + 1", "At location 21: A_Expr expressions are not allowed in ORDER BY clauses"),
        ("b AND b", "At location 20: BoolExpr expressions are not allowed in ORDER BY clauses"),
        (
            "t IS NULL DESC",
            "At location 20: NullTest expressions are not allowed in ORDER BY clauses",
        ),
        (
            "coalesce(i4, 1)",
            "At location 18: CoalesceExpr expressions are not allowed in ORDER BY clauses",
        ),
        (
            'c COLLATE "C"',
            "At location 20: CollateClause expressions are not allowed in ORDER BY clauses",
        ),
        (
            "now()",
            "At location 18: FuncCall expressions are not allowed in ORDER BY clauses",
        ),
        ("$1", "At location 18: parameter $1 is not supported in ORDER BY clauses"),
        ("i4, $12 desc", "At location 22: parameter $12 is not supported in ORDER BY clauses"),
        ("i4, nope", "At location 22: unknown reference nope"),
        ("everything.i4", "At location 18: unknown reference everything.i4"),
        ("i4; drop table everything", "Unexpected `;` in order by"),
        ("i4;", "Unexpected `;` in order by"),
        ("i4 limit 1", "malformed query ending with SQL clauses"),
        ("i4 desc for update", "malformed query ending with SQL clauses"),
        ("i4 x", 'At location 21: syntax error at or near "x"'),
        ("i4 desc asc", 'At location 26: syntax error at or near "asc"'),
        ("i4 nulls", "At location 26: syntax error at end of input"),
        ("i4,", "At location 21: syntax error at end of input"),
        ("", "At location 18: syntax error at end of input"),
        ("'i4'", "At location 18: non-integer constant in ORDER BY"),
        ("null", "At location 18: non-integer constant in ORDER BY"),
        ("1.5", "At location 18: non-integer constant in ORDER BY"),
        ("0", "At location 18: ORDER BY position 0 is not in select list"),
        ("-1", "At location 18: ORDER BY position -1 is not in select list"),
        ("i4 using <", "At location 21: USING is not supported in ORDER BY clauses"),
    ],
)
def test_refused(text: str, message: str) -> None:
    with pytest.raises(WhereError) as refusal:
        parse_order_by(text, TABLE.columns)
    assert str(refusal.value) == message


def test_names_only_what_may_be_named() -> None:
    with pytest.raises(WhereError, match="unknown reference i4"):
        parse_order_by("i4", TABLE.columns[:2])
