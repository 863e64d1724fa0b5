"""From the syntax tree to typed expressions: names, types and operators are settled here."""

from __future__ import annotations

from collections.abc import Sequence

from engine.table import Table
from shapes.where import syntax
from shapes.where.casts import find_cast
from shapes.where.collations import BYTEWISE, objection
from shapes.where.errors import WhereError
from shapes.where.expressions import (
    All,
    Apply,
    Collated,
    ColumnValue,
    Constant,
    Convert,
    Distinct,
    Either,
    Elements,
    Expression,
    Not,
    Quantified,
    Slot,
    Test,
    columns_in,
)
from shapes.where.overloads import common_type, resolve
from shapes.where.routines import Routine, is_known
from shapes.where.syntax import Tree
from shapes.where.types import (
    BOOL,
    TEXT,
    TYPES,
    UNKNOWN,
    UNKNOWN_ARRAY,
    Type,
    array_of,
    type_of,
)


class Checker:
    """Checks one where clause against a table.

    `parameter_slots` maps a parameter's number to the number of its slot; `parameter_types` and
    `columns` fill up while it works.
    """

    def __init__(self, table: Table, parameter_slots: dict[int, int]) -> None:
        self._columns = {column.name: column for column in table.columns}
        self._parameter_slots = parameter_slots
        self._numbers = {slot: number for number, slot in parameter_slots.items()}
        self.parameter_types: dict[int, Type] = {}
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
            case _:
                return self._test(tree)

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

    def _as_boolean(self, expression: Expression, what: str, at: int) -> Expression:
        if expression.type is UNKNOWN:
            return self._typed(expression, BOOL)
        if expression.type is not BOOL:
            raise WhereError(f"{what} must be bool, not {expression.type.name}", at)
        return expression

    def _array(self, tree: syntax.Array) -> Expression:
        items = [self.check(item) for item in tree.items]
        if not items:
            raise WhereError("cannot determine type of empty array", tree.at)
        element = UNKNOWN
        for item in items:
            if item.type.element is not None:
                raise WhereError("nested ARRAY is not supported; write '{…}'", tree.at)
            both = UNKNOWN if UNKNOWN is item.type is element else common_type((element, item.type))
            if both is None:
                names = f"{element.name} and {item.type.name}"
                raise WhereError(f"ARRAY types {names} cannot be matched", tree.at)
            element = both
        if element is UNKNOWN:
            return Elements(UNKNOWN_ARRAY, tuple(items), tree.at)
        return self._elements(items, element, tree.at)

    def _elements(self, items: Sequence[Expression], element: Type, at: int) -> Expression:
        converted = tuple(self.coerce(item, element, at) for item in items)
        return Elements(array_of(element), converted, at)

    def _cast(self, tree: syntax.Cast) -> Expression:
        found = TYPES.get(tree.type)
        if found is None:
            raise WhereError(f"unsupported type {tree.type}{'[]' * tree.array}", tree.at)
        target = array_of(found) if tree.array else found
        if isinstance(tree.operand, syntax.Array) and tree.array:
            items = [self._convert(self.check(item), found, tree.at) for item in tree.operand.items]
            return Elements(target, tuple(items), tree.at)
        return self._convert(self.check(tree.operand), target, tree.at)

    def _convert(self, expression: Expression, target: Type, at: int) -> Expression:
        """An explicit conversion."""
        source = expression.type
        if source in (UNKNOWN, UNKNOWN_ARRAY):
            return self._typed(expression, target)
        if source is target:
            return expression
        cast = find_cast(source, target)
        if cast is None or (cast.constants_only and any(columns_in(expression))):
            raise WhereError(f"unknown cast from type {source.name} to type {target.name}", at)
        return Convert(cast, expression, at)

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

    # -- types -------------------------------------------------------------------------------------

    def coerce(self, expression: Expression, target: Type, at: int) -> Expression:
        """An implicit conversion, which is known to exist."""
        source = expression.type
        if source in (UNKNOWN, UNKNOWN_ARRAY):
            return self._typed(expression, target)
        cast = find_cast(source, target)
        # What changes no value needs no conversion, and SQL applies it unasked.
        return expression if cast is None or cast.convert is None else Convert(cast, expression, at)

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

    def _apply(self, name: str, operands: Sequence[Expression], at: int) -> Expression:
        routine = self._operator(name, [one.type for one in operands], at)
        arguments = self._arguments(routine, operands, at)
        return Apply(routine, arguments, at)

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
        """The operands as the routine wants them, if they can be compared that way at all."""
        arguments = tuple(
            self.coerce(operand, wanted, at)
            for operand, wanted in zip(operands, routine.parameters, strict=True)
        )
        reason = routine.refused or objection(routine, arguments)
        if reason:
            raise WhereError(reason, at)
        return arguments

    # -- operators ---------------------------------------------------------------------------------

    def _operation(self, tree: syntax.Operation) -> Expression:
        return self._apply(tree.operator, [self.check(one) for one in tree.operands], tree.at)

    def _call(self, tree: syntax.Call) -> Expression:
        arguments = [self.check(one) for one in tree.arguments]
        count = len(arguments)
        if not is_known(tree.function, count, operator=False):
            raise WhereError(f"unknown or unsupported function {tree.function}/{count}", tree.at)
        routine = resolve(tree.function, [one.type for one in arguments], operator=False)
        if routine is None:
            types = ", ".join(one.type.name for one in arguments)
            raise WhereError(
                f"Could not select a function overload for {tree.function}({types})", tree.at
            )
        return Apply(routine, self._arguments(routine, arguments, tree.at), tree.at)

    def _is_test(self, tree: syntax.IsTest) -> Expression:
        operand = self.check(tree.operand)
        if tree.word != "null":
            what = f"argument of IS {'NOT ' * tree.negated}{tree.word.upper()}"
            operand = self._as_boolean(operand, what, tree.at)
        elif operand.type.category == "C":
            raise WhereError(f"IS NULL is not supported for type {operand.type.name}", tree.at)
        if operand.type in (UNKNOWN, UNKNOWN_ARRAY):
            operand = self._typed(operand, TEXT if operand.type is UNKNOWN else array_of(TEXT))
        return Test(operand, tree.word, tree.negated)

    def _is_distinct(self, tree: syntax.IsDistinct) -> Expression:
        left, right = self.check(tree.left), self.check(tree.right)
        for one, other in ((left, tree.right), (right, tree.left)):
            if isinstance(other, syntax.Null):
                test = syntax.IsTest(
                    tree.at, tree.left if one is left else tree.right, "null", not tree.negated
                )
                return self._is_test(test)
        routine = self._operator("=", (left.type, right.type), tree.at)
        left, right = self._arguments(routine, (left, right), tree.at)
        return Distinct(routine, left, right, tree.negated)

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
        tests += [self._apply("=", (left, item), tree.at) for item in items]
        found = tests[0] if len(tests) == 1 else Either(tuple(tests))
        return Not(found) if tree.negated else found

    def _range(self, tree: syntax.Range) -> Expression:
        at = tree.at
        operand, low, high = self.check(tree.operand), self.check(tree.low), self.check(tree.high)

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
        return self._quantify(tree.operator, left, array, every=tree.every, at=tree.at)

    def _quantify(
        self, operator: str, left: Expression, array: Expression, *, every: bool, at: int
    ) -> Expression:
        element = array.type.element or UNKNOWN
        routine = self._operator(operator, (left.type, element), at)
        if routine.result is not BOOL:
            raise WhereError("ANY/ALL requires operator that returns bool", at)
        wanted, member = routine.parameters
        arguments = (
            self.coerce(left, wanted, at),
            self._coerce_array(array, array_of(member), at),
        )
        reason = routine.refused or objection(routine, arguments)
        if reason:
            raise WhereError(reason, at)
        return Quantified(routine, *arguments, every, at)

    def _coerce_array(self, array: Expression, target: Type, at: int) -> Expression:
        return array if array.type is target else self.coerce(array, target, at)


_LISTABLE = frozenset("BNSDTUE")
