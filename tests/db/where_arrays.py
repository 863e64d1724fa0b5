"""Forms, columns and constants of arrays, for random expressions."""

from __future__ import annotations

from typing import Final

COLUMNS_SQL: Final = """
    i1 int[], i2 int[], i8 bigint[], nn numeric[], tt text[] collate "C", vv varchar[], bb boolean[],
    ff float8[], uu uuid[], tz timestamptz[], dd date[], hh time[], vl interval[], jj jsonb[],
    sm small[], ca char(3)[], two int[][], ne int, te text collate "C", xx bytea[]
"""

_INTS: Final = (
    *("{}", "{1}", "{1,2,3}", "{NULL}", "{3,NULL,1}", "{2,1,2}", "[2:3]={1,2}", "[0:0]={7}"),
    *("{{1,2},{3,4}}", "{{1},{2}}", "[5:6][-1:0]={{1,2},{NULL,4}}", "{{{1,2}},{{3,4}}}", "{4}"),
)

POOLS: Final[dict[str, tuple[str, ...]]] = {
    "i1": _INTS,
    "i2": _INTS,
    "i8": (*_INTS, "{9007199254740993}"),
    "nn": ("{}", "{1.0,1.00}", "{NaN,1}", "{0.1}", "{-1.5,NULL}", "{1,2,3}", "{Infinity}"),
    "tt": (
        "{}",
        "{a}",
        "{a,b}",
        '{"a b",NULL,"NULL"}',
        '{"","a\\"\\\\b"}',
        "[2:3]={b,a}",
        "{{a,b}}",
    ),
    "vv": ("{}", "{a}", "{b,a,NULL}", "{é}"),
    "bb": ("{}", "{t}", "{t,f,NULL}", "{f}"),
    "ff": ("{}", "{1.5}", "{0,-0}", "{NaN,Infinity}", "{1e300,NULL}"),
    "uu": (
        "{}",
        "{11111111-2222-3333-4444-555555555555}",
        "{A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11}",
    ),
    "tz": ("{}", '{"2026-01-01 00:00:00+02"}', '{infinity,"2025-12-31 22:00:00Z",NULL}'),
    "dd": ("{}", "{2026-01-01}", "{2025-12-31,infinity}"),
    "hh": ("{}", "{10:20:30}", "{24:00:00,00:00:00.5}"),
    "vl": ("{}", '{"1 mon"}', '{"30 days",NULL}', '{"1 day","24:00"}'),
    "jj": ("{}", '{"{\\"a\\": 1}"}', '{"[1, 2.0]",NULL,"null"}', '{"1.0"}', '{"1"}'),
    "sm": ("{}", "{1}", "{1,2,NULL}"),
    "ca": ("{}", "{a}", '{"a ",ab}'),
    "two": ("{}", "{{1,2},{3,4}}", "{{5,6}}", "[0:1][0:1]={{1,2},{3,4}}"),
    "ne": ("0", "1", "2", "-1", "7", "3"),
    "te": ("a", "b", "", "a b"),
    "xx": ("{}", '{"\\\\x00"}', '{"\\\\x00","\\\\xff",NULL}'),
}

_EACH: Final = """
    ({A} || {A}) ; ({A} || {E}) ; ({E} || {A}) ; array_append({A}, {E}) ; array_prepend({E}, {A})
    ; array_cat({A}, {A}) ; ({A})[{index} : {index}] ; ({A})[{index}:] ; ({A})[: {index!}]
    ; ({A})[{index!}][{index!} : {index!}] ; ({A})[{index!}:{index!}][:] ; array_remove({A}, {E})
    ; array_replace({A}, {E}, {E}) ; coalesce({A}, {A}) ; array[{E}, {E}] ; ({A})[:]
    ; array[{A.}, {A.}] ; array[array[{E}], array[{E}]] ; nullif({A}, {A!})
    ; array[[{E},{E!}],[{E},{E}]]
"""
_ELEMENT: Final = """
    ({A})[{index}] ; ({A.})[{index}][{index!}] ; ({A})[{index!}] ; coalesce({E}, {E!})
"""
_TESTS: Final = """
    ({A} = {A}) ; ({A} <> {A!}) ; ({A} < {A}) ; ({A} >= {A!}) ; ({A} @> {A!}) ; ({A!} <@ {A})
    ; ({A} && {A}) ; ({E} = any ({A})) ; ({E!} = any ({A.})) ; ({E} <> all ({A})) ; ({E} < any ({A}))
    ; ({E.} >= all ({A!})) ; ({A} is null) ; ({A} is distinct from {A}) ; (({A})[{index}] = {E})
    ; ({A} in ({A!}, {A})) ; ({A} between {A!} and {A}) ; ({E} <= any (array[{E}, {E!}]))
"""


def _each(forms: str, array: str, element: str) -> list[str]:
    texts = (one.strip() for one in forms.split(";"))
    return [one.replace("{A", "{" + array).replace("{E", "{" + element) for one in texts]


FORMS: Final[dict[str, list[str]]] = {
    "ints": [*_each(_EACH, "ints", "int4"), "array_positions({ints}, {int4})"],
    "longs": [*_each(_EACH, "longs", "int8"), "({ints} || {int8})", "{ints}::int8[]"],
    "numerics": [
        *_each(_EACH, "numerics", "numeric"),
        "({ints} || {numeric})",
        "{ints}::numeric[]",
    ],
    "texts": [*_each(_EACH, "texts", "text"), "{ints}::text[]", "({vv.} || {texts})"],
    "bools": _each(_EACH, "bools", "bool"),
    "int4": [
        *_each(_ELEMENT, "ints", "int4"),
        "cardinality({ints})",
        "cardinality({texts})",
        "array_ndims({ints})",
        "array_length({ints}, {index})",
        "array_length({texts}, {index!})",
        "array_lower({ints}, {index!})",
        "array_upper({ints}, {index!})",
        "array_position({ints}, {int4})",
        "array_position({ints}, {int4}, {index})",
        "array_position({texts}, {text})",
        "array_position({numerics}, {numeric})",
        "({bools})[{index}]::int",
    ],
    "int8": _each(_ELEMENT, "longs", "int8"),
    "numeric": [*_each(_ELEMENT, "numerics", "numeric"), "{int4}::numeric"],
    "text": [*_each(_ELEMENT, "texts", "text"), "({texts})::text", "({ints})::text", "vv[{index}]"],
    "bool": [
        *_each(_TESTS, "ints", "int4"),
        *_each(_TESTS, "longs", "int8"),
        *_each(_TESTS, "numerics", "numeric"),
        *_each(_TESTS, "texts", "text"),
        *_each(_TESTS, "bools", "bool"),
        "({texts} = {vv.}::text[])",
        "(tt like any ({texts!}))",
        "({text} like any ({texts}))",
        "({text} not like all ({texts}))",
        "(uu = {uuids!})",
        "(uu < {uuids!})",
        "(uu @> {uuids!})",
        "('a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11' = any (uu))",
        "(tz = {moments!})",
        "(tz > {moments!})",
        "('2026-01-01' <= all (tz))",
        "(tz[{index}] = '2025-12-31 22:00Z')",
        "(dd < {dates!})",
        "(dd[{index}] = '2026-01-01')",
        "(hh = '{10:20:30}')",
        "(hh || time '10:00' @> '{10:00}')",
        "(vl = {spans!})",
        "(vl < {spans!})",
        "(vl[{index}] = '30 days')",
        "(interval '1 mon' = any (vl))",
        "(jj = {jsons!})",
        "(jj @> {jsons!})",
        "('1' = any (jj))",
        "(jj[{index}] = '1')",
        "(jj[{index}] -> 'a' = '1')",
        "(ff = {floats!})",
        "(ff < {floats!})",
        "(0 = any (ff))",
        "(sm @> {one!})",
        "(1 = any (sm))",
        "(sm[{index}] = {int4})",
        "(sm || {int4} = {ints})",
        "(ca = {letter!})",
        "('a' = any (ca))",
        "(ca[{index}] = 'a ')",
        "(xx @> '{\"\\\\x00\"}')",
        "(xx[{index!}] = '\\x00')",
        "(xx < '{\"\\\\xff\"}')",
        "({bool} and {bool})",
        "({bool} or not {bool})",
    ],
}

COLUMNS: Final[dict[str, tuple[str, ...]]] = {
    "ints": ("i1", "i2", "two"),
    "longs": ("i8",),
    "numerics": ("nn",),
    "texts": ("tt",),
    "vv": ("vv",),
    "bools": ("bb",),
    "int4": ("ne", "id"),
    "int8": ("ne::int8",),
    "numeric": ("ne::numeric",),
    "text": ("te",),
    "bool": ("b",),
    "index": ("ne", "ne"),
}

CONSTANTS: Final[dict[str, tuple[str, ...]]] = {
    "ints": tuple("'" + one + "'::int[]" for one in _INTS),
    "longs": ("'{1,2}'::int8[]", "'{}'::int8[]", "'{3,NULL}'::int8[]", "array[1,3000000000]"),
    "numerics": ("'{1.0}'::numeric[]", "array[1.5,2]", "'{}'::numeric[]"),
    "texts": (
        "'{a}'::text[]",
        "array['a','b']::text[]",
        "'{}'::text[]",
        "'{NULL,\"a b\"}'::text[]",
    ),
    "bools": ("'{t}'::bool[]", "array[true,false]", "'{}'::bool[]"),
    "int4": ("1", "2", "7", "null::int"),
    "int8": ("1::int8", "3000000000"),
    "numeric": ("1.0", "1.5", "2"),
    "text": ("'a'::text", "'b'", "''", "null::text"),
    "bool": ("true", "false"),
    "index": ("0", "1", "2", "-1", "5", "1::int2", "2::int8", "1.6", "null"),
    "one": ("'{1}'", "'{}'"),
    "letter": ("'{a}'", "'{ab,\"a \"}'"),
    "uuids": ("'{A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11}'", "'{}'"),
    "moments": ("'{infinity}'", "'{2026-01-01,NULL}'", "'{2025-12-31T22:00:00Z}'"),
    "dates": ("'{2026-01-01}'", "'{infinity}'"),
    "spans": ("'{30 days}'", "'{24:00,1 day}'", "'{P1M,NULL}'"),
    "jsons": ("'{1}'", '\'{"{\\"a\\": 1.0}"}\'', "'{}'"),
    "floats": ("'{0}'", "'{NaN,Infinity}'", "'{1.5,2}'"),
}
