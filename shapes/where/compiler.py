"""From bound expressions to Python functions.

An expression becomes the source of one Python function over a row. Names, texts and constants never
enter the source: it holds positions and numbered references only, so that conditions which differ
in constants alone share one code object.

Three-valued logic is compiled by what is asked: `_true(x)` is Python source that is true if and only
if x is TRUE, `_false(x)` likewise for FALSE, and `_value(x)` yields True, False or None.

Where Postgres raises an error for a row (a text that is no number, an overflow), so does the function:
EvaluationError. Parts are looked at from left to right until the answer is known, as Postgres does
it, except that it begins with the cheaper part of an AND if that is the whole condition; so do we.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any, cast

from shapes.where.rows import Predicate, Row
from shapes.where.semantics.binding import extreme, quantify
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
    columns_in,
    parts_of,
    uncollated,
)
from shapes.where.semantics.types import TEXT, VARCHAR, Type
from shapes.where.sources import all_checks, factory, first_of
from shapes.where.values.arrays import ArrayValue


def compile_condition(expression: Expression, positions: Mapping[str, int]) -> Predicate:
    """A function from a row to whether the condition is TRUE.

    It raises UnchangedValueError if a column that the condition names was not sent.
    """
    return _Compiler(expression, positions).compile(expression)


def compile_value(expression: Expression, positions: Mapping[str, int]) -> Callable[[Row], Any]:
    """A function from a row to the expression's value, None for NULL. It raises what the function
    of a condition does."""
    return _Compiler(expression, positions).compile(expression, value=True)


class _Compiler:
    def __init__(self, expression: Expression, positions: Mapping[str, int]) -> None:
        self._positions = positions
        self._uses = Counter(one.column.name for one in columns_in(expression))
        self._constants: list[object] = []
        self._temporaries = 0
        self._kept: set[int] = set()

    def compile(self, expression: Expression, *, value: bool = False) -> Callable[[Row], Any]:
        """A function over a row: whether the expression is TRUE, or what its value is."""
        if isinstance(expression, All) and not value:
            expression = All(tuple(sorted(expression.parts, key=_cost)))
        answer = self._value(expression) if value else self._true(expression)
        lines = ["def test(r):"]
        for name in self._uses:
            position = self._positions[name]
            lines.append(f" if r[{position}] is U: raise E({self._constant(name)})")
        lines += [f" c{position} = N" for position in sorted(self._kept)]
        lines += [" try:", f"  return {answer}"]
        lines += [
            " except (ValueError, ArithmeticError, RecursionError) as error:",
            "  raise F(error) from None",
        ]
        return factory("\n  ".join(lines), len(self._constants))(*self._constants)

    # -- names in the source -----------------------------------------------------------------------

    def _constant(self, value: object) -> str:
        self._constants.append(value)
        return f"k{len(self._constants) - 1}"

    def _temporary(self) -> str:
        self._temporaries += 1
        return f"t{self._temporaries}"

    def _raw(self, column: ColumnValue) -> str:
        return f"r[{self._positions[column.column.name]}]"

    def _parsed(self, column: ColumnValue) -> str:
        """The value of a column that is not NULL, parsed no more than once per row."""
        raw = self._raw(column)
        if column.type.parse is None:
            return raw
        parse = f"{self._constant(column.type.parse)}({raw})"
        if self._uses[column.column.name] == 1:
            return parse
        position = self._positions[column.column.name]
        self._kept.add(position)
        return f"(c{position} if c{position} is not N else (c{position} := {parse}))"

    # -- TRUE --------------------------------------------------------------------------------------

    def _true(self, expression: Expression) -> str:
        match expression:
            case Constant():
                return str(expression.value is True)
            case All():
                return f"({' and '.join(map(self._true, expression.parts))})"
            case Either():
                return f"({' or '.join(map(self._true, expression.parts))})"
            case Not():
                return self._false(expression.part)
            case Test():
                return self._test(expression, expression.negated)
            case Distinct():
                return self._distinct(expression, expression.negated)
            case Apply():
                return self._same_text(expression) or self._applied(expression, "{}")
            case Quantified():
                return self._member(expression) or f"({self._value(expression)} is True)"
            case _:
                return f"({self._value(expression)} is True)"

    def _false(self, expression: Expression) -> str:
        match expression:
            case Constant():
                return str(expression.value is False)
            case All():
                return f"({' or '.join(map(self._false, expression.parts))})"
            case Either():
                return f"({' and '.join(map(self._false, expression.parts))})"
            case Not():
                return self._true(expression.part)
            case Test():
                return self._test(expression, not expression.negated)
            case Distinct():
                return self._distinct(expression, not expression.negated)
            case Apply():
                return self._applied(expression, "({} is False)")
            case _:
                return f"({self._value(expression)} is False)"

    def _test(self, test: Test, negated: bool) -> str:
        argument = test.argument
        if test.word in ("null", "unknown"):
            is_column = isinstance(argument, ColumnValue)
            operand = self._raw(argument) if is_column else self._value(argument)
            return f"({operand} is {'not ' * negated}None)"
        asked = self._true(argument) if test.word == "true" else self._false(argument)
        return f"(not {asked})" if negated else asked

    def _distinct(self, distinct: Distinct, negated: bool) -> str:
        symbol = "==" if negated else "!="
        return f"({self._value(distinct.left)} {symbol} {self._value(distinct.right)})"

    def _same_text(self, apply: Apply) -> str | None:
        """`column = constant` where equal values have equal texts: nothing is parsed."""
        if apply.routine.name != "=" or len(apply.arguments) != 2:
            return None
        left, right = map(uncollated, apply.arguments)
        if isinstance(left, Constant):
            left, right = right, left
        text = self._text(left)
        if text is None or not isinstance(right, Constant) or not _agree(left, right.type):
            return None
        return f"({text} == {self._constant(right.type.write(right.value))})"

    def _text(self, expression: Expression) -> str | None:
        """The source of a canonical text, if the expression is one that stands in the row."""
        column = text_in_row(expression)
        return None if column is None else self._raw(column)

    def _member(self, quantified: Quantified) -> str | None:
        """`column = ANY (constants)` and `constant = ANY (column)`."""
        if quantified.routine.name != "=" or quantified.every:
            return None
        left, array = uncollated(quantified.left), uncollated(quantified.array)
        if isinstance(array, Constant) and array.type.element is not None:
            element = array.type.element
            text = self._text(left)
            if text is None or not _agree(left, element):
                return None
            elements = cast(ArrayValue, array.value)[1]
            texts = frozenset(element.write(one) for one in elements if one is not None)
            return f"({text} in {self._constant(texts)})"
        if isinstance(left, Constant) and left.value is not None and isinstance(array, ColumnValue):
            raw, parsed = self._raw(array), self._parsed(array)
            return f"({raw} is not None and {self._constant(left.value)} in {parsed}[1])"
        return None

    # -- values ------------------------------------------------------------------------------------

    def _value(self, expression: Expression) -> str:
        match expression:
            case Constant():
                return "None" if expression.value is None else self._constant(expression.value)
            case ColumnValue():
                raw = self._raw(expression)
                if expression.type.parse is None:
                    return raw
                return f"({self._parsed(expression)} if {raw} is not None else None)"
            case All() | Either():
                return self._junction(expression)
            case Not():
                return f"{self._constant(_not)}({self._value(expression.part)})"
            case Test() | Distinct():
                return self._true(expression)
            case Apply():
                return self._applied(expression, "{}", otherwise="None")
            case _:
                return self._other_value(expression)

    def _junction(self, junction: All | Either) -> str:
        decisive = not isinstance(junction, All)
        names = [self._temporary() for _ in junction.parts]
        parts = zip(names, map(self._value, junction.parts), strict=True)
        decided = " or ".join(f"({name} := {part}) is {decisive}" for name, part in parts)
        unknown = " or ".join(f"{name} is None" for name in names)
        return f"({decisive} if {decided} else None if {unknown} else {not decisive})"

    def _other_value(
        self, expression: Slot | Convert | Quantified | Elements | Collated | Choice | NullIf | Case
    ) -> str:
        match expression:
            case Choice():
                return self._choice(expression)
            case NullIf():
                left, right = self._temporary(), self._temporary()
                equal = self._constant(expression.routine.apply)
                return (
                    f"(None if (({left} := {self._value(expression.left)}) is not None)"
                    f" & (({right} := {self._value(expression.right)}) is not None)"
                    f" and {equal}({left}, {right}) else {left})"
                )
            case Case():
                branches = [
                    (self._true(condition), self._value(result))
                    for condition, result in expression.branches
                ]
                return first_of(branches, self._value(expression.otherwise))
            case Slot():
                raise ValueError("the expression is not bound")
            case Convert():
                return self._converted(expression)
            case Collated():
                return self._value(expression.argument)
            case Elements():
                items = "".join(f"{self._value(one)}, " for one in expression.items)
                return f"(((1, {len(expression.items)}),), ({items}))"
            case Quantified():
                routine = expression.routine
                apply = self._constant(routine.apply)
                left, array = self._value(expression.left), self._value(expression.array)
                quantifier = self._constant(quantify)
                return f"{quantifier}({apply}, {left}, {array}, {expression.every})"

    def _choice(self, choice: Choice) -> str:
        if choice.word != "coalesce":
            items = ", ".join(map(self._value, choice.items))
            return f"{self._constant(extreme(choice))}({items})"
        *items, last = choice.items
        branches: list[tuple[str, str]] = []
        for item in items:
            name = self._temporary()
            branches.append((f"({name} := {self._value(item)}) is not None", name))
        return first_of(branches, self._value(last))

    def _converted(self, convert: Convert) -> str:
        column = text_in_row(convert)
        if column is not None:
            return self._raw(column)
        if convert.cast.convert is None:
            return self._value(convert.argument)
        check, operand = self._operand(convert.argument)
        function = self._constant(convert.cast.convert)
        return f"({function}({operand}) if {check or True} else None)"

    def _applied(self, apply: Apply, form: str, otherwise: str = "") -> str:
        """A routine's result in the given form; `otherwise`, or a falsehood, if it is NULL."""
        routine = apply.routine
        if not routine.strict:
            values = ", ".join(map(self._value, apply.arguments))
            return form.format(f"{self._constant(routine.apply)}({values})")
        last = uncollated(apply.arguments[-1])
        operands = [self._operand(one) for one in apply.arguments]
        checks = all_checks([check for check, _ in operands if check])
        if routine.with_constant is not None and isinstance(last, Constant):
            function = self._constant(routine.with_constant(last.value))
            result = f"{function}({operands[0][1]})"
        elif routine.leading is not None:
            first = uncollated(apply.arguments[0])
            assert isinstance(first, Constant)
            result = f"{self._constant(routine.leading(first.value))}({operands[1][1]})"
        elif routine.code is not None:
            result = routine.code.format(*(operand for _, operand in operands))
        else:
            function = self._constant(routine.apply)
            result = f"{function}({', '.join(operand for _, operand in operands)})"
        result = form.format(result)
        if otherwise:
            return f"({result} if {checks or True} else {otherwise})"
        return f"({checks} and {result})" if checks else f"({result})"

    def _operand(self, expression: Expression) -> tuple[str, str]:
        """Source that says whether an operand is not NULL (empty if it never is), and its value."""
        expression = uncollated(expression)
        if isinstance(expression, Constant):
            return "False" * (expression.value is None), self._constant(expression.value)
        if isinstance(expression, ColumnValue):
            return f"{self._raw(expression)} is not None", self._parsed(expression)
        name = self._temporary()
        return f"({name} := {self._value(expression)}) is not None", name


def text_in_row(expression: Expression) -> ColumnValue | None:
    """The column whose text in the row is the expression's value, or stands for it one to one."""
    expression = uncollated(expression)
    if isinstance(expression, ColumnValue):
        return expression if expression.type.canonical else None
    if isinstance(expression, Convert) and expression.cast.target in (TEXT, VARCHAR):
        column = uncollated(expression.argument)
        if isinstance(column, ColumnValue) and column.type.as_text:
            return column
    return None


def _cost(expression: Expression) -> int:
    """How many functions are called, as Postgres counts them to order conditions."""
    return isinstance(expression, Apply | Convert | Distinct | NullIf | Quantified) + sum(
        map(_cost, parts_of(expression))
    )


def _agree(expression: Expression, constant: Type) -> bool:
    """Whether a text in the row and the text of a constant of this type are of the same kind."""
    own = uncollated(expression).type
    return own is constant or own.category == constant.category == "S"


def _not(value: bool | None) -> bool | None:
    return None if value is None else not value
