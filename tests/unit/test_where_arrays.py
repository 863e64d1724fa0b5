"""Arrays: putting them together, taking them apart, comparing them."""

from __future__ import annotations

import pytest
from where_table import POSITIONS, error, full_row, parse, truth

from shapes.where import EvaluationError

SQUARE = "{{1,2},{3,4}}"


@pytest.mark.parametrize(
    ("clause", "ia", "outcome"),
    [
        ("ia[2] = 5", "{4,5}", True),
        ("ia[2] = 5", "[2:3]={5,6}", True),
        ("ia[0] IS NULL", "{4,5}", True),
        ("ia[1] IS NULL", SQUARE, True),
        ("ia[2][1] = 3", SQUARE, True),
        ("ia[1.6] = 5", "{4,5}", True),
        ("ia[NULL] = 5", "{4,5}", None),
        ("ia[2:3] = '{2,3}'", "{1,2,3}", True),
        ("ia[2:] = '{2,3}'", "{1,2,3}", True),
        ("ia[:2] = '{1,2}'", "{1,2,3}", True),
        ("ia[6:9] = '{2,3}'", "[5:7]={1,2,3}", True),
        ("ia[1:1] = '{{1,2}}'", SQUARE, True),
        ("ia[2][1:1] = '{{1},{3}}'", SQUARE, True),
        ("ia[1:2][2] = ia", SQUARE, True),
        ("ia[5:9] = '{}'", "{1,2,3}", True),
        ("ia[1:1][1:1] = '{}'", "{1,2,3}", True),
        ("ia[NULL:1] IS NULL", "{1,2,3}", True),
        ("ia || 3 = '{1,2,3}'", "{1,2}", True),
        ("ia || 3 = '[2:4]={1,2,3}'", "[2:3]={1,2}", True),
        ("0 || ia = '[2:4]={0,1,2}'", "[2:3]={1,2}", True),
        ("ia || '{3}' = '{1,2,3}'", "{1,2}", True),
        ("ia || '{5,6}' = '{{1,2},{3,4},{5,6}}'", SQUARE, True),
        ("'{5,6}' || ia = '{{5,6},{1,2},{3,4}}'", SQUARE, True),
        ("ia || NULL::int = '{1,NULL}'", "{1}", True),
        ("ia || NULL::int[] = '{1}'", "{1}", True),
        ("ia || 1.5 = '{1,1.5}'", "{1}", True),
        ("array_append(NULL::int[], ia[1]) = '{1}'", "{1}", True),
        ("array_cat(ia, ia) = '{1,1}'", "{1}", True),
        ("array_prepend(0, ia) = '{0,1}'", "{1}", True),
        ("ARRAY[ia, '{3,4}'] = '{{1,2},{3,4}}'", "{1,2}", True),
        ("ARRAY[ia, NULL] = '{}'", "{}", True),
        ("ARRAY[[1, ia[1]], [3, 4]] = '{{1,2},{3,4}}'", "{2}", True),
        ("ia::text = '[2:3]={1,NULL}'", "[2:3]={1,NULL}", True),
        ("cardinality(ia) = 4", SQUARE, True),
        ("array_ndims(ia) = 2", SQUARE, True),
        ("array_ndims(ia) IS NULL", "{}", True),
        ("array_length(ia, 2) = 2", SQUARE, True),
        ("array_length(ia, 3) IS NULL", SQUARE, True),
        ("array_lower(ia, 1) = 5 AND array_upper(ia, 1) = 7", "[5:7]={1,2,3}", True),
        ("array_position(ia, 2) = 6", "[5:7]={1,2,3}", True),
        ("array_position(ia, 1, 2) = 3", "{1,2,1}", True),
        ("array_position(ia, NULL) = 2", "{1,NULL}", True),
        ("array_positions(ia, 1) = '{1,3}'", "{1,2,1}", True),
        ("array_remove(ia, 1) = '{2}'", "{1,2,1}", True),
        ("array_replace(ia, 1, NULL) = '{NULL,2}'", "{1,2}", True),
        ("ia < '{1,2,3}'", "{1,2}", True),
        ("ia < '{1,NULL}'", "{1,2}", True),
        ("ia < '{2}'", "{1,9}", True),
        ("ia < '{{1,2}}'", "{1,2}", True),
        ("ia < '{1,2}'", "[0:1]={1,2}", True),
        ("ia >= '{}'", "{}", True),
        ("3 > ALL (ia)", "{1,2}", True),
        ("2 <= ANY (ia)", "{1,NULL}", None),
    ],
)
def test_meaning(clause: str, ia: str, outcome: bool | None) -> None:
    assert truth(clause, ia=ia) is outcome


@pytest.mark.parametrize(
    ("clause", "ia"),
    [
        ("ia || 1 = '{}'", SQUARE),
        ("ia || '{1,2,3}' = '{}'", SQUARE),
        ("ia || ARRAY[[[1]]] = '{}'", "{1}"),
        ("ARRAY[ia, '{1}'] = '{}'", "{1,2}"),
        ("ARRAY[ia, '{1}'] = '{}'", "{}"),
        ("array_position(ia, 1) = 1", SQUARE),
        ("array_position(ia, 1, NULL) = 1", "{1}"),
        ("array_remove(ia, 1) = '{}'", SQUARE),
        ("array_prepend(1, ia) = '{}'", "[-2147483648:-2147483648]={1}"),
    ],
)
def test_what_fails_in_postgres_fails_here(clause: str, ia: str) -> None:
    with pytest.raises(EvaluationError):
        parse(clause).compile(POSITIONS)(full_row({"ia": ia}))


@pytest.mark.parametrize(
    ("clause", "sql"),
    [
        ("ia[1:2][3] = '{}'", "((\"ia\")['1'::int4 : '2'::int4]['3'::int4] = '{}'::int4[])"),
        ("ia[:] = '{}'", "((\"ia\")[ : ] = '{}'::int4[])"),
        ("ARRAY[[1,2]] @> ia", "('{{1,2}}'::int4[] @> \"ia\")"),
        ("ARRAY[ia, ia] = '{}'", '(ARRAY["ia", "ia"]::int4[] = \'{}\'::int4[])'),
        ("ia || 1 = '{}'", "((\"ia\" || '1'::int4) = '{}'::int4[])"),
        ("'[2:3]={1,2}' = ia", "('[2:3]={1,2}'::int4[] = \"ia\")"),
    ],
)
def test_sql(clause: str, sql: str) -> None:
    assert parse(clause).sql == sql


def test_refusals() -> None:
    assert error("ia[u] = 1") == "At location 2: array subscript must have type integer"
    assert error("ia || c = '{}'").startswith(
        "At location 3: Could not select an operator overload"
    )
    assert error("cardinality('{1}') = 1").endswith("overload for cardinality(unknown)")
    assert "collation" in error("ARRAY[t] < ARRAY[t]")
    assert error("array_position(ia, 'x') = 1") == "At location 19: invalid syntax for type int4: x"
