"""Arrays in a where clause: `ARRAY[…]`, casts of it, subscripts and slices; and subscripts of jsonb."""

from __future__ import annotations

from collections.abc import Sequence

from shapes.where.errors import WhereError
from shapes.where.grammar import syntax
from shapes.where.grammar.syntax import Tree
from shapes.where.semantics import array_routines, json_routines
from shapes.where.semantics.casts import common_type, find_cast
from shapes.where.semantics.expressions import Apply, Convert, Elements, Expression
from shapes.where.semantics.forms import Forms
from shapes.where.semantics.types import (
    INT2,
    INT4,
    JSONB,
    TEXT,
    UNKNOWN,
    UNKNOWN_ARRAY,
    Type,
    array_of,
)
from shapes.where.values.arrays import MAX_DIMENSIONS


class ArrayForms(Forms):
    """Checks such forms; `check` is left to be defined."""

    def _array(self, tree: syntax.Array) -> Expression:
        items = [self.check(item) for item in tree.items]
        if not items:
            raise WhereError("cannot determine type of empty array", tree.at)
        if any(item.type.element is not None for item in items):
            return self._nested(items, tree.at)
        element = UNKNOWN
        for item in items:
            both = UNKNOWN if UNKNOWN is item.type is element else common_type((element, item.type))
            if both is None:
                names = f"{element.name} and {item.type.name}"
                raise WhereError(f"ARRAY types {names} cannot be matched", tree.at)
            element = both
        if element is UNKNOWN:
            return Elements(UNKNOWN_ARRAY, tuple(items), tree.at)
        return self._elements(items, element, tree.at)

    def _elements(self, items: Sequence[Expression], element: Type, at: int) -> Expression:
        converted = tuple(self._unify(item, element, "ARRAY", at) for item in items)
        return Elements(array_of(element), converted, at)

    def _nested(self, items: Sequence[Expression], at: int) -> Expression:
        """An array of arrays, one dimension more than theirs."""
        texts = array_of(TEXT)
        items = [self._typed(one, texts) if one.type is UNKNOWN_ARRAY else one for one in items]
        _, converted = self._unified(items, "ARRAY", at)
        return self._nest(converted, at)

    def _nest(self, items: Sequence[Expression], at: int) -> Expression:
        return Apply(array_routines.nest(items[0].type, len(items)), tuple(items), at)

    def _cast_array(self, tree: syntax.Array, element: Type, at: int) -> Expression:
        """`ARRAY[…]::type[]`: the conversion is one of the items."""
        target = array_of(element)
        if any(isinstance(item, syntax.Array) for item in tree.items):
            return self._nest([self._cast_item(one, element, at) for one in tree.items], at)
        items = [self.check(item) for item in tree.items]
        if any(item.type.element is not None for item in items):
            return self._nest([self._convert(one, target, at) for one in items], at)
        return Elements(target, tuple(self._convert(one, element, at) for one in items), at)

    def _cast_item(self, item: Tree, element: Type, at: int) -> Expression:
        if isinstance(item, syntax.Array):
            return self._cast_array(item, element, at)
        return self._convert(self.check(item), array_of(element), at)

    # -- subscripts --------------------------------------------------------------------------------

    def _subscripts(self, tree: syntax.Subscripts) -> Expression:
        operand = self.check(tree.operand)
        if operand.type is JSONB:
            return self._path(operand, tree)
        if operand.type is UNKNOWN_ARRAY:
            operand = self._typed(operand, array_of(TEXT))
        type_ = operand.type
        if len(tree.items) > MAX_DIMENSIONS:
            raise WhereError(
                f"number of array dimensions ({len(tree.items)}) exceeds the maximum allowed "
                f"({MAX_DIMENSIONS})",
                tree.at,
            )
        if type_.element is None:
            message = f"cannot subscript type {type_.name} because it does not support subscripting"
            raise WhereError(message, tree.at)
        if not any(item.slice for item in tree.items):
            indexes = [self._index(item.upper, tree.at) for item in tree.items if item.upper]
            routine = array_routines.subscript(type_, len(indexes))
            return Apply(routine, (operand, *indexes), tree.at)
        given = [
            (item.lower is not None, item.upper is not None, item.slice) for item in tree.items
        ]
        written = [one for item in tree.items for one in (item.lower, item.upper)]
        limits = [self._index(one, tree.at) for one in written if one is not None]
        routine = array_routines.slices(type_, given)
        return Apply(routine, (operand, *limits), tree.at)

    def _index(self, tree: Tree, at: int) -> Expression:
        index = self.check(tree)
        if index.type in (INT2, UNKNOWN):
            return self.coerce(index, INT4, at)
        if index.type is INT4:
            return index
        cast = find_cast(index.type, INT4)
        if cast is None or index.type.category != "N":
            raise WhereError("array subscript must have type integer", at)
        return Convert(cast, index, at)

    def _path(self, operand: Expression, tree: syntax.Subscripts) -> Expression:
        """The subscripts of a jsonb value: texts, or numbers, which are as good as their digits."""
        if any(item.slice for item in tree.items):
            raise WhereError("jsonb subscript does not support slices", tree.at)
        steps: list[Expression] = []
        for item in tree.items:
            assert item.upper is not None
            step = self.check(item.upper)
            if step.type.category not in "S?" and step.type not in (INT2, INT4):
                message = f"subscript type {step.type.name} is not supported"
                raise WhereError(message, tree.at)
            steps.append(self._convert(step, TEXT, tree.at))
        return Apply(json_routines.subscript(len(steps)), (operand, *steps), tree.at)
