"""Identifiers in request parameters, and their messages."""

from __future__ import annotations

import unicodedata

import pytest

from shapes.identifiers import (
    parse_columns,
    parse_identifier,
    parse_table,
    relation_label,
    split_outside_quotes,
)

ZERO = "Invalid zero-length delimited identifier"
LONG = "Identifier is too long (max length is 63)"


def special(text: str) -> str:
    return f"Invalid unquoted identifier contains special characters: {text}"


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("items", "items"),
        ("Items", "items"),
        ("_x$1", "_x$1"),
        ("ÄRGER", "Ärger"),
        ("größe", "größe"),
        ("表", "表"),
        ('"Items"', "Items"),
        ('"a b.c/d,e"', "a b.c/d,e"),
        ('"say ""hi"""', 'say "hi"'),
        ('""""', '"'),
        ('"1"', "1"),
        ("x" * 63, "x" * 63),
        ('"' + '""' * 63 + '"', '"' * 63),
        ("ä" * 63, "ä" * 63),
    ],
)
def test_identifiers(text: str, name: str) -> None:
    assert parse_identifier(text) == name


def test_letters_with_marks_of_their_own() -> None:
    """As a keyboard or a file system may compose them."""
    name = unicodedata.normalize("NFD", "café")
    assert len(name) == 5
    assert parse_identifier(name) == name


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", ZERO),
        ('""', ZERO),
        ("1a", special("1a")),
        ("$a", special("$a")),
        ("a b", special("a b")),
        ("a-b", special("a-b")),
        ("a;drop", special("a;drop")),
        (" a", special(" a")),
        ("a\n", special("a\n")),
        ("a\0", special("a\0")),
        ('"', special('"')),
        ('"a', special('"a')),
        ('a"', special('a"')),
        ('a"b"', special('a"b"')),
        ('"a"b"', 'Invalid identifier with unescaped quote: a"b'),
        ('"""', 'Invalid identifier with unescaped quote: "'),
        ('"a"" b" c"', 'Invalid identifier with unescaped quote: a"" b" c'),
        ("x" * 64, LONG),
        ('"' + "x" * 64 + '"', LONG),
    ],
)
def test_what_is_no_identifier(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=r".") as refused:
        parse_identifier(text)
    assert str(refused.value) == message


def test_a_zero_byte_is_never_part_of_a_name() -> None:
    """Postgres cannot be asked for such a name."""
    with pytest.raises(ValueError, match=r"."):
        parse_identifier('"a\0b"')


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("items", ("public", "items")),
        ("Depot.Items", ("depot", "items")),
        ('"Depot"."my.items"', ("Depot", "my.items")),
        ('depot."a"".""b"', ("depot", 'a"."b')),
        ('"public.items"', ("public", "public.items")),
    ],
)
def test_tables(text: str, name: tuple[str, str]) -> None:
    assert parse_table(text) == name


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", ZERO),
        (".", ZERO),
        ("a.", ZERO),
        (".a", ZERO),
        ('"".a', ZERO),
        ("a.b.c", "Invalid relation identifier, too many delimiters: a.b.c"),
        ('a."b.c".d', 'Invalid relation identifier, too many delimiters: a."b.c".d'),
        ("..", "Invalid relation identifier, too many delimiters: .."),
        ("a.b c", special("b c")),
        (f"a.{'b' * 64}", LONG),
        (f"{'a' * 64}.b", LONG),
    ],
)
def test_what_is_no_table(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=r".") as refused:
        parse_table(text)
    assert str(refused.value) == message


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("id", ["id"]),
        ('Id,"Na me"', ["id", "Na me"]),
        ('b,a,"a,b"', ["b", "a", "a,b"]),
        ("id,ID,id", ["id"]),
    ],
)
def test_columns(text: str, names: list[str]) -> None:
    assert parse_columns(text) == names


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", ZERO),
        ("id,", ZERO),
        (",id", ZERO),
        ("a,,b", ZERO),
        ('id,""', ZERO),
        ("id;x", special("id;x")),
        ('"id', special('"id')),
    ],
)
def test_what_are_no_columns(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=r".") as refused:
        parse_columns(text)
    assert str(refused.value) == message


def test_splitting_minds_quotes() -> None:
    assert split_outside_quotes('a,"b,c",d""e,f', ",") == ["a", '"b,c"', 'd""e', "f"]
    assert split_outside_quotes("", ",") == [""]


@pytest.mark.parametrize(
    ("schema", "table", "label"),
    [
        ("public", "items", '"public"."items"'),
        ("a.b", "c/d", '"a..b"."c//d"'),
        ("./", '"', '"..//"."""'),
    ],
)
def test_labels(schema: str, table: str, label: str) -> None:
    assert relation_label(schema, table) == label
