"""A where clause that has passed every check."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Final

from engine.postgres.table import Table
from shapes.where.compiler import compile_condition
from shapes.where.errors import WhereError
from shapes.where.grammar.lexer import (
    NAME,
    NUMBER,
    PARAMETER,
    STRING,
    Token,
    check_characters,
    tokenize,
)
from shapes.where.grammar.parser import Parser, number_type
from shapes.where.keys import Plan
from shapes.where.plans import plans
from shapes.where.rendering import render
from shapes.where.rows import Predicate
from shapes.where.semantics.binding import bind
from shapes.where.semantics.checker import Checker
from shapes.where.semantics.expressions import Expression, weight_of
from shapes.where.values.letters import Letters

MOST_EXPRESSIONS: Final = 20_000
"""Besides constants. More of them would take seconds to compile."""

NO_LETTERS: Final[Mapping[str, Letters | str]] = MappingProxyType({})


@dataclass(frozen=True, slots=True, eq=False)
class Template:
    """What all where clauses of a table have in common that differ in constants alone.

    `slots` are the positions of the constants' tokens; the values of `parameters` follow them.
    """

    table: Table
    letters: Mapping[str, Letters | str]
    expression: Expression
    columns: frozenset[str]
    slots: tuple[int, ...]
    parameters: tuple[int, ...]

    def fits(self, table: Table, letters: Mapping[str, Letters | str]) -> bool:
        """Whether a clause means the same for this table of this database."""
        same = self.table is table or (self.table == table and self.table.labels == table.labels)
        return same and self.letters is letters


class Condition:
    """A where clause with its parameters, checked against its table.

    There may be very many of these: they hold their constants and share everything else.
    """

    __slots__ = ("_template", "_values")

    def __init__(self, template: Template, values: tuple[str, ...]) -> None:
        self._template = template
        self._values = values

    def __repr__(self) -> str:
        return f"<Condition {self.sql}>"

    @property
    def template(self) -> Template:
        """What it shares with others."""
        return self._template

    @property
    def columns(self) -> frozenset[str]:
        """Names of the columns that the clause reads."""
        return self._template.columns

    @property
    def expression(self) -> Expression:
        return bind(self._template.expression, self._values)

    @property
    def sql(self) -> str:
        """Canonical SQL without parameters. Two clauses that differ in spacing, parentheses, quotes
        or in writing a constant as a parameter have the same; it is safe to execute."""
        return render(self.expression)

    @property
    def plans(self) -> list[Plan]:
        """The ways to find this condition through an index; see `shapes.where.plans`."""
        return plans(self.expression)

    def compile(self, positions: Mapping[str, int]) -> Predicate:
        """A function that says whether the condition is TRUE of a row.

        `positions` maps column names to indexes in the row. Values are texts as Postgres prints them
        with bytea_output hex, DateStyle ISO, TimeZone UTC, extra_float_digits 1 and IntervalStyle
        iso_8601. The function raises UnchangedValueError if a column that it reads is `UNCHANGED`.
        """
        return compile_condition(self.expression, positions)


def parse_where(
    text: str,
    params: Mapping[int, str],
    table: Table,
    letters: Mapping[str, Letters | str] = NO_LETTERS,
) -> Condition:
    """Check a where clause with the values of its `$n`.

    `letters`: upper and lower case of the database's collations by name, or why it cannot be known.
    Raises WhereError, as MissingLettersError if those of a certain collation are wanted.
    """
    tokens = tokenize(text)
    skeleton = _skeleton(tokens)
    template = _templates.get((table.oid, skeleton))
    if template is not None and template.fits(table, letters):
        try:
            return _condition(template, tokens, params)
        except WhereError:
            # Its locations are those of another text.
            pass
    template = _make_template(text, tokens, table, letters)
    condition = _condition(template, tokens, params)
    # What cannot be compiled must fail here, where it concerns one request, not in the routing.
    condition.compile({column.name: at for at, column in enumerate(table.columns)})
    _remember((table.oid, skeleton), template)
    return condition


def parse_subset_where(
    text: str, params: Mapping[int, str], table: Table, names: Collection[str]
) -> str:
    """The canonical SQL of a where clause that Postgres alone will evaluate, as `Condition.sql`.

    What is refused elsewhere because it cannot be evaluated here is possible. `names` are the
    columns that the clause may name. Raises WhereError.
    """
    tokens = tokenize(text)
    visible = tuple([column for column in table.columns if column.name in names])
    part = replace(table, columns=visible)
    template = _make_template(text, tokens, part, NO_LETTERS, evaluated=False)
    return _condition(template, tokens, params).sql


def _make_template(
    text: str,
    tokens: list[Token],
    table: Table,
    letters: Mapping[str, Letters | str],
    *,
    evaluated: bool = True,
) -> Template:
    parser = Parser(text, tokens)
    tree = parser.parse()
    numbers = {int(token.value[1:]) for token in tokens if token.kind == PARAMETER}
    parameters = tuple(sorted(numbers))
    slots = {number: len(parser.slots) + place for place, number in enumerate(parameters)}
    checker = Checker(table, slots, letters, evaluated=evaluated)
    expression = checker.condition(tree)
    if evaluated and weight_of(expression) > MOST_EXPRESSIONS:
        raise WhereError("the expression is too complex; compare with fewer columns")
    return Template(
        table,
        letters,
        expression,
        frozenset(checker.columns),
        tuple(parser.slots),
        parameters,
    )


def _condition(template: Template, tokens: list[Token], params: Mapping[int, str]) -> Condition:
    values = [tokens[position].value for position in template.slots]
    for number in template.parameters:
        value = params.get(number)
        if value is None:
            at = next(one.start for one in tokens if one == (PARAMETER, f"${number}", *one[2:]))
            raise WhereError(f"parameter ${number} was not provided", at)
        check_characters(value)
        values.append(value)
    condition = Condition(template, tuple(values))
    # Reads and folds every constant, so that what is wrong with one is said now.
    bind(template.expression, values)
    return condition


def _skeleton(tokens: Sequence[Token]) -> str:
    """The tokens without the values of constants, as far as these do not decide on types."""
    parts: list[str] = []
    for token in tokens:
        if token.kind == STRING:
            parts.append("'")
        elif token.kind == NUMBER:
            kind = number_type(token.value, negative=False)
            same = kind == number_type(token.value, negative=True)
            parts.append(f"0{kind}" if same else token.value)
        elif token.kind == NAME:
            parts.append('"' + token.value)
        else:
            parts.append(token.value)
    return "\0".join(parts)


# Together they bound the memory of clauses that nobody uses any more.
_MOST_TEMPLATES: Final = 2048
_LONGEST_SKELETON: Final = 1024
_templates: dict[tuple[int, str], Template] = {}


def _remember(key: tuple[int, str], template: Template) -> None:
    """Keep a template for the next clause of its kind; the oldest makes room for it."""
    if len(key[1]) > _LONGEST_SKELETON:
        return
    if len(_templates) >= _MOST_TEMPLATES:
        del _templates[next(iter(_templates))]
    _templates[key] = template
