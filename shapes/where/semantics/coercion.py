"""How constants get types, and how values are converted to what an operator wants."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Final

from shapes.where.errors import WhereError
from shapes.where.semantics.casts import common_type, find_cast
from shapes.where.semantics.collations import combine, letters_of, objection
from shapes.where.semantics.expressions import (
    Apply,
    Constant,
    Convert,
    Elements,
    Expression,
    Slot,
    columns_in,
    size_of,
)
from shapes.where.semantics.overloads import is_known, resolve
from shapes.where.semantics.routine import Routine, unavailable
from shapes.where.semantics.text_routines import with_letters
from shapes.where.semantics.types import BOOL, TEXT, UNKNOWN, UNKNOWN_ARRAY, Type, array_of
from shapes.where.values.letters import Letters

MOST_REPEATED: Final = 2000
"""Expressions that one operand may become in all."""


class Coercion:
    """The types of one where clause. `parameter_types` fills up: a parameter has one type.

    `letters`: upper and lower case by collation, or why it is not known. `evaluated`: the clause is
    evaluated here, too, so that what cannot be is refused.
    """

    def __init__(
        self,
        parameter_slots: dict[int, int],
        letters: Mapping[str, Letters | str],
        *,
        evaluated: bool,
    ) -> None:
        self._letters = letters
        self._evaluated = evaluated
        self._numbers = {slot: number for number, slot in parameter_slots.items()}
        self.parameter_types: dict[int, Type] = {}

    def _check_repeated(self, expression: Expression, copies: int, at: int) -> None:
        """Refuse what would grow with every level of nesting, since it is written out so often."""
        size = size_of(expression)
        if copies > 1 < size and copies * size > MOST_REPEATED:
            raise WhereError("the expression is too complex", at)

    def _as_boolean(self, expression: Expression, what: str, at: int) -> Expression:
        if expression.type is UNKNOWN:
            return self._typed(expression, BOOL)
        if expression.type is not BOOL:
            raise WhereError(f"{what} must be bool, not {expression.type.name}", at)
        return expression

    def coerce(self, expression: Expression, target: Type, at: int) -> Expression:
        """An implicit conversion."""
        source = expression.type
        if source in (UNKNOWN, UNKNOWN_ARRAY):
            return self._typed(expression, target)
        if source is target:
            return expression
        cast = find_cast(source, target)
        if cast is None:
            raise WhereError(f"unknown cast from type {source.name} to type {target.name}", at)
        # What changes no value needs no conversion, and SQL applies it unasked.
        return expression if cast.convert is None else Convert(cast, expression, at)

    def _convert(self, expression: Expression, target: Type, at: int) -> Expression:
        """An explicit conversion."""
        if expression.type is UNKNOWN_ARRAY and target.element is None:
            expression = self._typed(expression, array_of(TEXT))
        source = expression.type
        if source in (UNKNOWN, UNKNOWN_ARRAY):
            return self._typed(expression, target)
        if source is target:
            return expression
        cast = find_cast(source, target)
        unseen = cast is not None and cast.constants_only and any(columns_in(expression))
        if cast is None or (unseen and self._evaluated):
            raise WhereError(f"unknown cast from type {source.name} to type {target.name}", at)
        return Convert(cast, expression, at)

    def _typed(self, expression: Expression, target: Type) -> Expression:
        """Give a constant without a type the one that its context wants."""
        if isinstance(expression, Slot):
            number = self._numbers.get(expression.number)
            if number is not None:
                known = self.parameter_types.setdefault(number, target)
                if known is not target:
                    raise WhereError(
                        f"type conflict for ${number}: {known.name} and {target.name}",
                        expression.at,
                    )
            return Slot(target, expression.number, expression.at)
        if isinstance(expression, Elements) and target.element is not None:
            items = (self._typed(item, target.element) for item in expression.items)
            return Elements(target, tuple(items), expression.at)
        return Constant(target, None)

    def _unified(
        self, items: Sequence[Expression], what: str, at: int
    ) -> tuple[Type, tuple[Expression, ...]]:
        """The type that several values have in common, and the values as such."""
        common = items[0].type
        for item in items[1:]:
            both = UNKNOWN if common is UNKNOWN is item.type else common_type((common, item.type))
            if both is None:
                names = f"{common.name} and {item.type.name}"
                raise WhereError(f"{what} types {names} cannot be matched", at)
            common = both
        common = TEXT if common is UNKNOWN else common
        return common, tuple(self._unify(one, common, what, at) for one in items)

    def _unify(self, item: Expression, common: Type, what: str, at: int) -> Expression:
        if item.type in (common, UNKNOWN, UNKNOWN_ARRAY):
            return self.coerce(item, common, at)
        cast = find_cast(item.type, common)
        if cast is None or not cast.implicit:
            names = f"{common.name} and {item.type.name}"
            raise WhereError(f"{what} types {names} cannot be matched", at)
        return Convert(cast, item, at)

    # -- routines ----------------------------------------------------------------------------------

    def _apply(self, name: str, operands: Sequence[Expression], at: int) -> Expression:
        routine = self._operator(name, [one.type for one in operands], at)
        return self._applied(routine, operands, at)

    def _applied(self, routine: Routine, operands: Sequence[Expression], at: int) -> Apply:
        arguments = self._arguments(routine, operands, at)
        return Apply(self._usable(routine, arguments, at), arguments, at)

    def _operator(self, name: str, types: Sequence[Type], at: int) -> Routine:
        routine = resolve(name, types, operator=True)
        if routine is not None:
            return routine
        if not is_known(name, len(types), operator=True):
            kind = "unary" if len(types) == 1 else "binary"
            raise WhereError(f"unknown {kind} operator {name}", at)
        shown = " ".join(
            (types[0].name, name, types[1].name) if len(types) == 2 else (name, types[0].name)
        )
        raise WhereError(f"Could not select an operator overload ({shown})", at)

    def _arguments(
        self, routine: Routine, operands: Sequence[Expression], at: int
    ) -> tuple[Expression, ...]:
        """The operands as the routine wants them."""
        return tuple(
            self.coerce(operand, wanted, at)
            for operand, wanted in zip(operands, routine.parameters, strict=True)
        )

    def _usable(self, routine: Routine, arguments: Sequence[Expression], at: int) -> Routine:
        """The routine for the collation of these arguments, if it can be evaluated for it."""
        if not self._evaluated:
            left_to_postgres = replace(routine, constants_only="", apply=unavailable)
            return left_to_postgres if routine.constants_only or routine.leading else routine
        collation = combine(arguments)
        reason = routine.refused or objection(routine, collation)
        if reason:
            raise WhereError(reason, at)
        if routine.collation == "letters":
            return with_letters(routine, letters_of(collation, self._letters, at))
        return routine
