"""Bound expressions as SQL text: canonical, with every constant typed and safely quoted."""

from __future__ import annotations

from shapes.where.semantics.expressions import (
    All,
    Apply,
    Case,
    Choice,
    Collated,
    ColumnValue,
    Constant,
    Convert,
    Distinct,
    Either,
    Elements,
    Expression,
    Not,
    NullIf,
    Quantified,
    Slot,
    Test,
)
from shapes.where.semantics.types import BOOL


def render(expression: Expression) -> str:
    """SQL that Postgres reads as this very expression, in parentheses where it has parts."""
    match expression:
        case Constant():
            return _constant(expression)
        case ColumnValue():
            return _column(expression)
        case Apply():
            return _apply(expression)
        case All():
            return f"({' AND '.join(map(render, expression.parts))})"
        case Either():
            return f"({' OR '.join(map(render, expression.parts))})"
        case Not():
            return f"(NOT {render(expression.part)})"
        case _:
            return _render_other(expression)


def _render_other(
    expression: Slot
    | Convert
    | Test
    | Distinct
    | Quantified
    | Elements
    | Collated
    | Choice
    | NullIf
    | Case,
) -> str:
    match expression:
        case Slot():
            raise ValueError("the expression is not bound")
        case Convert():
            return f"{render(expression.argument)}::{expression.cast.target.sql}"
        case Test():
            negation = "NOT " if expression.negated else ""
            return f"({render(expression.argument)} IS {negation}{expression.word.upper()})"
        case Distinct():
            negation = "NOT " if expression.negated else ""
            left, right = render(expression.left), render(expression.right)
            return f"({left} IS {negation}DISTINCT FROM {right})"
        case Quantified():
            word = "ALL" if expression.every else "ANY"
            left, array = render(expression.left), render(expression.array)
            return f"({left} {expression.routine.name} {word} ({array}))"
        case Choice():
            return f"{expression.word.upper()}({', '.join(map(render, expression.items))})"
        case NullIf():
            return f"NULLIF({render(expression.left)}, {render(expression.right)})"
        case Case():
            return _case(expression)
        case Elements():
            items = ", ".join(map(render, expression.items))
            return f"ARRAY[{items}]::{expression.type.sql}"
        case Collated():
            collation = quote_identifier(expression.collation)
            return f"({render(expression.argument)} COLLATE {collation})"


def _case(expression: Case) -> str:
    branches = " ".join(
        f"WHEN {render(condition)} THEN {render(result)}"
        for condition, result in expression.branches
    )
    return f"(CASE {branches} ELSE {render(expression.otherwise)} END)"


def _apply(expression: Apply) -> str:
    routine = expression.routine
    arguments = list(map(render, expression.arguments))
    if routine.template:
        return routine.template.format(*arguments)
    if not routine.operator:
        return f"{routine.name}({', '.join(arguments)})"
    if len(arguments) == 1:
        return f"({routine.name} {arguments[0]})"
    return f"({arguments[0]} {routine.name} {arguments[1]})"


def _column(value: ColumnValue) -> str:
    column, name = value.column, quote_identifier(value.column.name)
    # Postgres sees through a domain, but not to find operators of arrays and enums.
    domain = column.kind == "d" and (column.dims or column.enum is not None)
    return f"{name}::{value.type.sql}" if domain and value.type.category != "X" else name


def _constant(constant: Constant) -> str:
    if constant.value is None:
        return f"NULL::{constant.type.sql}"
    if constant.type is BOOL:
        return "TRUE" if constant.value else "FALSE"
    return f"{quote_literal(constant.type.write(constant.value))}::{constant.type.sql}"


def quote_identifier(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def quote_literal(text: str) -> str:
    """A string constant that means the same whatever `standard_conforming_strings` is."""
    quoted = "'" + text.replace("'", "''") + "'"
    return "E" + quoted.replace("\\", "\\\\") if "\\" in quoted else quoted
