"""Calls, and what looks like calls but has rules of its own: COALESCE, GREATEST, NULLIF, CASE."""

from __future__ import annotations

from typing import Final

from shapes.where.errors import WhereError
from shapes.where.grammar import syntax
from shapes.where.grammar.syntax import Tree
from shapes.where.semantics.coercion import Coercion
from shapes.where.semantics.expressions import Case, Choice, Constant, Expression, NullIf
from shapes.where.semantics.overloads import is_known, resolve
from shapes.where.semantics.types import TEXT, TYPES, UNKNOWN

_OPERATORS: Final = {
    "like": "~~",
    "notlike": "!~~",
    "ilike": "~~*",
    "starts_with": "^@",
}
"""Functions that are operators by another name, so that both spellings are one condition."""


class Forms(Coercion):
    """Checks such forms; `check` is left to be defined."""

    def check(self, tree: Tree) -> Expression:
        raise NotImplementedError

    def _call(self, tree: syntax.Call) -> Expression:
        arguments = [self.check(one) for one in tree.arguments]
        count = len(arguments)
        operator = _OPERATORS.get(tree.function)
        if operator is not None and count == 2:
            return self._apply(operator, arguments, tree.at)
        routine = resolve(tree.function, [one.type for one in arguments], operator=False)
        if routine is not None:
            return self._applied(routine, arguments, tree.at)
        target = TYPES.get(tree.function)
        if target is not None and count == 1:
            # A function that has the name of a type and no other meaning is a conversion.
            return self._convert(arguments[0], target, tree.at)
        if not is_known(tree.function, count, operator=False):
            raise WhereError(f"unknown or unsupported function {tree.function}/{count}", tree.at)
        types = ", ".join(one.type.name for one in arguments)
        raise WhereError(
            f"Could not select a function overload for {tree.function}({types})", tree.at
        )

    def _choice(self, tree: syntax.Choice) -> Expression:
        items = [self.check(one) for one in tree.items]
        common, converted = self._unified(items, tree.word.upper(), tree.at)
        if tree.word == "coalesce":
            return Choice(common, tree.word, converted)
        routine = resolve("<", (common, common), operator=True)
        if routine is None:
            message = f"could not identify a comparison function for type {common.name}"
            raise WhereError(message, tree.at)
        return Choice(common, tree.word, converted, self._usable(routine, converted, tree.at))

    def _null_if(self, tree: syntax.NullIf) -> Expression:
        operands = self.check(tree.left), self.check(tree.right)
        routine = self._operator("=", [one.type for one in operands], tree.at)
        left, right = self._arguments(routine, operands, tree.at)
        return NullIf(left.type, self._usable(routine, (left, right), tree.at), left, right)

    def _case(self, tree: syntax.Case) -> Expression:
        otherwise = Constant(UNKNOWN, None) if tree.otherwise is None else tree.otherwise
        if not isinstance(otherwise, Constant):
            otherwise = self.check(otherwise)
        results = [self.check(result) for _, result in tree.branches]
        common, converted = self._unified((otherwise, *results), "CASE", tree.at)
        operand = None if tree.operand is None else self.check(tree.operand)
        if operand is not None:
            self._check_repeated(operand, len(tree.branches), tree.at)
            operand = self._typed(operand, TEXT) if operand.type is UNKNOWN else operand
        conditions = [self._when(operand, condition) for condition, _ in tree.branches]
        branches = tuple(zip(conditions, converted[1:], strict=True))
        return Case(common, branches, converted[0])

    def _when(self, operand: Expression | None, condition: Tree) -> Expression:
        checked = self.check(condition)
        if operand is None:
            return self._as_boolean(checked, "argument of CASE/WHEN", condition.at)
        return self._apply("=", (operand, checked), condition.at)
