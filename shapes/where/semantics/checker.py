"""From the syntax tree to typed expressions: names, types and operators are settled here."""

from __future__ import annotations

from collections.abc import Mapping

from engine.postgres.table import Table
from shapes.where.errors import WhereError, unsupported
from shapes.where.grammar import syntax
from shapes.where.grammar.syntax import Tree
from shapes.where.semantics.array_forms import ArrayForms
from shapes.where.semantics.casts import common_type
from shapes.where.semantics.collations import BYTEWISE
from shapes.where.semantics.expressions import (
    All,
    Collated,
    ColumnValue,
    Constant,
    Distinct,
    Either,
    Expression,
    Not,
    Quantified,
    Slot,
    Test,
    columns_in,
)
from shapes.where.semantics.types import (
    BOOL,
    TEXT,
    TYPES,
    UNKNOWN,
    UNKNOWN_ARRAY,
    Type,
    array_of,
    type_of,
)
from shapes.where.values.letters import Letters


class Checker(ArrayForms):
    """Checks one where clause against a table.

    `parameter_slots` maps a parameter's number to the number of its slot; `parameter_types` and
    `columns` fill up while it works.
    """

    def __init__(
        self,
        table: Table,
        parameter_slots: dict[int, int],
        letters: Mapping[str, Letters | str],
        *,
        evaluated: bool = True,
    ) -> None:
        super().__init__(parameter_slots, letters, evaluated=evaluated)
        self._columns = {column.name: column for column in table.columns}
        self._parameter_slots = parameter_slots
        self.columns: set[str] = set()

    def condition(self, tree: Tree) -> Expression:
        """The expression of a whole where clause, which must be boolean."""
        expression = self.check(tree)
        if isinstance(expression, Constant) and expression.type is UNKNOWN:
            expression = Constant(BOOL, None)
        if expression.type is not BOOL:
            raise WhereError("WHERE clause must return a boolean")
        return expression

    def check(self, tree: Tree) -> Expression:
        """The typed expression; strings, parameters and NULL may still be `UNKNOWN`."""
        match tree:
            case syntax.Text():
                return Slot(UNKNOWN, tree.slot, tree.at)
            case syntax.Number():
                return Slot(TYPES[tree.type], tree.slot, tree.at, tree.negative)
            case syntax.Parameter():
                return Slot(UNKNOWN, self._parameter_slots[tree.number], tree.at)
            case syntax.Boolean():
                return Constant(BOOL, tree.value)
            case syntax.Null():
                return Constant(UNKNOWN, None)
            case syntax.Reference():
                return self._reference(tree)
            case syntax.Junction():
                parts = tuple(self._boolean(part, tree.word.upper()) for part in tree.parts)
                return All(parts) if tree.word == "and" else Either(parts)
            case syntax.Negation():
                return Not(self._boolean(tree.part, "NOT"))
            case syntax.Array():
                return self._array(tree)
            case syntax.Cast():
                return self._cast(tree)
            case syntax.Collate():
                return self._collate(tree)
            case (
                syntax.Choice()
                | syntax.NullIf()
                | syntax.Case()
                | syntax.Subscripts()
                | syntax.Row()
            ):
                return self._form(tree)
            case _:
                return self._test(tree)

    def _form(
        self,
        tree: syntax.Choice | syntax.NullIf | syntax.Case | syntax.Subscripts | syntax.Row,
    ) -> Expression:
        match tree:
            case syntax.Choice():
                return self._choice(tree)
            case syntax.NullIf():
                return self._null_if(tree)
            case syntax.Case():
                return self._case(tree)
            case syntax.Subscripts():
                return self._subscripts(tree)
            case syntax.Row():
                raise unsupported("RowExpr", tree.at)

    def _test(
        self,
        tree: syntax.Operation
        | syntax.Call
        | syntax.IsTest
        | syntax.IsDistinct
        | syntax.Membership
        | syntax.Range
        | syntax.Quantified,
    ) -> Expression:
        match tree:
            case syntax.Operation():
                return self._operation(tree)
            case syntax.Call():
                return self._call(tree)
            case syntax.IsTest():
                return self._is_test(tree)
            case syntax.IsDistinct():
                return self._is_distinct(tree)
            case syntax.Membership():
                return self._membership(tree)
            case syntax.Range():
                return self._range(tree)
            case syntax.Quantified():
                return self._quantified(tree)

    # -- operands ----------------------------------------------------------------------------------

    def _reference(self, tree: syntax.Reference) -> Expression:
        column = self._columns.get(tree.parts[0]) if len(tree.parts) == 1 else None
        if column is None:
            raise WhereError(f"unknown reference {'.'.join(tree.parts)}", tree.at)
        if column.virtual:
            raise WhereError(
                f"{column.name} is a virtual generated column, which replication does not send",
                tree.at,
            )
        self.columns.add(column.name)
        return ColumnValue(type_of(column), column)

    def _boolean(self, tree: Tree, where: str) -> Expression:
        return self._as_boolean(self.check(tree), f"argument of {where}", tree.at)

    def _cast(self, tree: syntax.Cast) -> Expression:
        found = self._named_type(tree.type)
        if found is None:
            raise WhereError(f"unsupported type {tree.type}{'[]' * tree.array}", tree.at)
        target = array_of(found) if tree.array else found
        if isinstance(tree.operand, syntax.Array) and tree.array:
            return self._cast_array(tree.operand, found, tree.at)
        return self._convert(self.check(tree.operand), target, tree.at)

    def _named_type(self, name: str) -> Type | None:
        """A type by its name; an enum, if the table has a column of it."""
        for column in self._columns.values():
            if column.enum is not None and name == (column.base or column.type):
                enum = type_of(column)
                return enum.element or enum
        return TYPES.get(name)

    def _collate(self, tree: syntax.Collate) -> Expression:
        expression = self.check(tree.operand)
        if expression.type is UNKNOWN:
            expression = self._typed(expression, TEXT)
        if expression.type.category != "S":
            name = expression.type.name
            raise WhereError(f"collations are not supported by type {name}", tree.at)
        if tree.collation not in BYTEWISE:
            raise WhereError(f'collation "{tree.collation}" is not supported; "C" is', tree.at)
        return Collated(expression, tree.collation)

    # -- operators ---------------------------------------------------------------------------------

    def _operation(self, tree: syntax.Operation) -> Expression:
        return self._apply(tree.operator, [self.check(one) for one in tree.operands], tree.at)

    def _is_test(self, tree: syntax.IsTest) -> Expression:
        operand = self.check(tree.operand)
        if tree.word == "null":
            return self._null_test(operand, tree.negated, tree.at)
        what = f"argument of IS {'NOT ' * tree.negated}{tree.word.upper()}"
        return Test(self._as_boolean(operand, what, tree.at), tree.word, tree.negated)

    def _null_test(self, operand: Expression, negated: bool, at: int) -> Expression:
        if operand.type.category == "C":
            raise WhereError(f"IS NULL is not supported for type {operand.type.name}", at)
        if operand.type in (UNKNOWN, UNKNOWN_ARRAY):
            operand = self._typed(operand, TEXT if operand.type is UNKNOWN else array_of(TEXT))
        return Test(operand, "null", negated)

    def _is_distinct(self, tree: syntax.IsDistinct) -> Expression:
        left, right = self.check(tree.left), self.check(tree.right)
        for one, other in ((left, tree.right), (right, tree.left)):
            if isinstance(other, syntax.Null):
                return self._null_test(one, not tree.negated, tree.at)
        routine = self._operator("=", (left.type, right.type), tree.at)
        left, right = self._arguments(routine, (left, right), tree.at)
        return Distinct(self._usable(routine, (left, right), tree.at), left, right, tree.negated)

    def _membership(self, tree: syntax.Membership) -> Expression:
        left = self.check(tree.operand)
        items = [self.check(item) for item in tree.items]
        constants = [item for item in items if not any(columns_in(item))]
        tests: list[Expression] = []
        common = common_type([one.type for one in (left, *constants)])
        scalar = common is not None and common.element is None and common.category in _LISTABLE
        if len(constants) > 1 and common is not None and scalar:
            array = self._elements(constants, common, tree.at)
            tests.append(self._quantify("=", left, array, every=False, at=tree.at))
            items = [item for item in items if any(columns_in(item))]
        self._check_repeated(left, len(tests) + len(items), tree.at)
        tests += [self._apply("=", (left, item), tree.at) for item in items]
        found = tests[0] if len(tests) == 1 else Either(tuple(tests))
        return Not(found) if tree.negated else found

    def _range(self, tree: syntax.Range) -> Expression:
        at = tree.at
        operand, low, high = self.check(tree.operand), self.check(tree.low), self.check(tree.high)
        for one in (operand, low, high):
            self._check_repeated(one, 4 if tree.symmetric else 2, at)

        def between(low: Expression, high: Expression) -> Expression:
            parts = (self._apply(">=", (operand, low), at), self._apply("<=", (operand, high), at))
            return All(parts)

        found = between(low, high)
        if tree.symmetric:
            found = Either((found, between(high, low)))
        return Not(found) if tree.negated else found

    def _quantified(self, tree: syntax.Quantified) -> Expression:
        left, array = self.check(tree.operand), self.check(tree.array)
        if array.type.element is None and array.type is not UNKNOWN:
            raise WhereError("argument of ANY must be an array", tree.at)
        if array.type is UNKNOWN_ARRAY and left.type.category == "S":
            # ARRAY['a'] is of texts, which char(n) compares with as a text.
            array = self._typed(array, array_of(TEXT))
        return self._quantify(tree.operator, left, array, every=tree.every, at=tree.at)

    def _quantify(
        self, operator: str, left: Expression, array: Expression, *, every: bool, at: int
    ) -> Expression:
        element = array.type.element or UNKNOWN
        routine = self._operator(operator, (left.type, element), at)
        if routine.result is not BOOL:
            raise WhereError("ANY/ALL requires operator that returns bool", at)
        wanted, member = routine.parameters
        if member.element is not None:
            raise WhereError(f"could not find array type for data type {member.name}", at)
        arguments = (
            self.coerce(left, wanted, at),
            self._coerce_array(array, array_of(member), at),
        )
        return Quantified(self._usable(routine, arguments, at), *arguments, every, at)

    def _coerce_array(self, array: Expression, target: Type, at: int) -> Expression:
        return array if array.type is target else self.coerce(array, target, at)


_LISTABLE = frozenset("BNSDTUE")
