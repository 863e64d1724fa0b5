"""jsonb and json: how they are read, compared, taken apart and printed."""

from __future__ import annotations

from decimal import Decimal

import pytest
from where_table import POSITIONS, error, full_row, parse, truth

from shapes.where import EvaluationError
from shapes.where.values import jsonb
from shapes.where.values.json_text import json_element, json_field, json_plain
from shapes.where.values.jsonb import Json, parse_jsonb, read_jsonb, write_json

ORDER = '{"": 4, "B": 1, "a": 3, "b": 9, "aa": 2, "é": 5}'


@pytest.mark.parametrize(
    ("text", "printed"),
    [
        ('{"b":1,"aa":2,"a":3,"":4,"é":5,"B":1,"b":9}', ORDER),
        ("-0", "0"),
        ("-0.0", "0.0"),
        ("1e5", "100000"),
        ("1.50e2", "150"),
        ("1E-7", "0.0000001"),
        (" [1.0 , 1.00,true,null ] ", "[1.0, 1.00, true, null]"),
        ('"\\u0001\\u001f\x7f\\/\\b\\f\\n\\r\\t"', '"\\u0001\\u001f\x7f/\\b\\f\\n\\r\\t"'),
        ('"\\ud83d\\ude00é"', '"😀é"'),
        ("[" * 50 + "]" * 50, "[" * 50 + "]" * 50),
        ("1" * 5000, "1" * 5000),
    ],
)
def test_is_printed_as_postgres_does(text: str, printed: str) -> None:
    assert write_json(read_jsonb(text)) == printed
    assert write_json(parse_jsonb(printed)) == printed
    assert parse_jsonb(printed) == read_jsonb(text)


@pytest.mark.parametrize(
    "text",
    [
        *("", "01", "1.", "NaN", "-Infinity", '"a\tb"', '"\\x"', '{"a":1,}', "{a:1}", "[1 2]"),
        *('"\\u0000"', '"\\ud800"', '{"\\ud800": 1}', "\f1", "1e131072", "1e-16384", "'a'"),
        "[" * 100_000,
    ],
)
def test_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        read_jsonb(text)


def test_equal_as_in_postgres() -> None:
    assert Json(Decimal("1.0")) == Json(1)
    assert hash(Json(Decimal("1.0"))) == hash(Json(1))
    assert Json([Decimal("1.0")]) == Json([1])
    assert Json(True) != Json(1)
    assert Json([True]) != Json([1])
    assert Json(None) != Json(False)
    assert Json({"a": 1, "b": 2}) == Json({"b": 2, "a": 1})
    assert Json([1, 2]) != Json([2, 1])
    assert Json("1") != Json(1)
    assert Json([]) != Json({})


DOCUMENT = '{"a": {"b": [1, "x", null, 2.50]}, "n": 7, "s": "7", "t": true, "z": null}'


@pytest.mark.parametrize(
    ("clause", "outcome"),
    [
        ("j->'a' @> '{\"b\":[2.5]}'", True),
        ("j->'a'->'b'->>1 = 'x'", True),
        ("j->'a'->'b'->>2 IS NULL", True),
        ("j->'a'->'b'->2 = 'null'", True),
        ("j->'a'->'b'->-1 = '2.5'", True),
        ("j->'a'->'b'->9 IS NULL", True),
        ("j->'a'->'b'->>3 = '2.50'", True),
        ("j->>'a' = '{\"b\": [1, \"x\", null, 2.50]}'", True),
        ("j#>>'{a,b,1}' = 'x'", True),
        ("j#>'{a,b,-1}' = '2.5'", True),
        ("j#>'{}' = j", True),
        ("j#>'{a,NULL}' IS NULL", True),
        ("j['a']['b'][1] = '\"x\"'", True),
        ("j['nope'] = '1'", None),
        ("(j->>'s')::int > 6", True),
        ("(j->'n')::int > 6", True),
        ("(j->'z')::int IS NULL", True),
        ("(j->'t')::bool", True),
        ("j ? 'n'", True),
        ("j ? '7'", False),
        ("j ?| '{x,n}'", True),
        ("j ?& ARRAY['x','n']", False),
        ("jsonb_typeof(j->'a'->'b') = 'array'", True),
        ("jsonb_array_length(j->'a'->'b') = 4", True),
        ("j::text LIKE '{\"a\"%'", True),
        ('j = \'{"s":"7","z":null,"t":true,"n":7.0,"a":{"b":[1,"x",null,2.5]}}\'', True),
        ("j IN ('1', '2')", False),
        ("j->'n' IN ('7.0', '2')", True),
        ("j @> '[]'", False),
        ("NULL::jsonb @> j", None),
    ],
)
def test_meaning(clause: str, outcome: bool | None) -> None:
    assert truth(clause, j=DOCUMENT) is outcome


@pytest.mark.parametrize(
    ("whole", "part", "outcome"),
    [
        ("[1]", "1", True),
        ("1", "[1]", False),
        ("1", "[]", False),
        ("1", "1.0", True),
        ("[[1]]", "[1]", False),
        ("[1, [2, 3]]", "[[3]]", True),
        ('{"a": [1]}', '{"a": 1}', False),
        ('{"a": {}}', '{"a": []}', False),
        ("[true]", "[1]", False),
        ('[{"a": 1, "b": 2}]', '[{"a": 1}, {"b": 2}]', True),
    ],
)
def test_containment(whole: str, part: str, outcome: bool) -> None:
    assert truth(f"j @> '{part}'", j=whole) is outcome
    assert truth(f"'{part}' <@ j", j=whole) is outcome


@pytest.mark.parametrize(
    "clause", ["(j->'s')::int = 7", "(j->'t')::int = 1", "jsonb_array_length(j) = 1"]
)
def test_what_fails_in_postgres_fails_here(clause: str) -> None:
    test = parse(clause).compile(POSITIONS)
    with pytest.raises(EvaluationError):
        test(full_row({"j": DOCUMENT}))


def test_json_stays_as_it_was_written() -> None:
    text = (
        '{ "a" : 15e-1, "a" : { "x" :  2 } ,"b":"q\\"\\u00e9\\n", "c":[ 1 ,{"z":[]} , 3], "d":null}'
    )
    assert json_field(text, "a") == '{ "x" :  2 }'
    assert json_field(text, "b") == '"q\\"\\u00e9\\n"'
    assert json_plain(json_field(text, "b")) == 'q"é\n'
    assert json_plain(json_field(text, "d")) is None
    assert json_field(text, "x") is None
    assert json_element(json_field(text, "c") or "", -2) == '{"z":[]}'
    assert json_element("{}", 0) is None
    assert json_field("[]", "a") is None
    assert truth("js->>'a' = '{ \"x\" :  2 }'", js=text) is True
    with pytest.raises(ValueError, match="Unicode"):
        json_field('{"a":"\\u0000","b":1}', "b")


def test_depth_is_limited() -> None:
    deep = "[" * 200 + "]" * 200
    assert write_json(parse_jsonb(deep)) == deep
    assert Json([]) != parse_jsonb(deep)
    assert truth("j @> '[]' AND j = j", j=deep) is True
    assert parse_jsonb('"' + "[" * 5000 + '"').tree == "[" * 5000
    deeper = '{"a": ' * 100_000 + "1" + "}" * 100_000
    with pytest.raises(EvaluationError):
        parse_jsonb(deeper)
    with pytest.raises(ValueError, match="deep"):
        json_field(deeper, "a")
    with pytest.raises(EvaluationError):
        parse("j ? 'a'").compile(POSITIONS)(full_row({"j": deeper}))


def test_refusals() -> None:
    assert error("j < '1'").startswith("At location 2: texts within jsonb sort by")
    assert (
        error("js = '1'") == "At location 3: Could not select an operator overload (json = unknown)"
    )
    assert error("j[0:1] = '1'") == "At location 1: jsonb subscript does not support slices"
    assert error("j[1.5] = '1'") == "At location 1: subscript type numeric is not supported"
    # The texts within sort by the database's collation.
    assert "COLLATE" in error("j->>'a' < 'x'")


def test_a_document_is_parsed_once_per_row(monkeypatch: pytest.MonkeyPatch) -> None:
    parsed: list[str] = []
    decode = jsonb._parsing.decode  # pyright: ignore[reportPrivateUsage]

    def counted(text: str) -> object:
        parsed.append(text)
        return decode(text)

    monkeypatch.setattr(jsonb._parsing, "decode", counted)  # pyright: ignore[reportPrivateUsage]
    test = parse("j->>'a' = 'x' OR j @> '1' OR j ? 'a'").compile(POSITIONS)
    parsed.clear()
    assert not test(full_row({"j": "2"}))
    assert parsed == ["2"]
