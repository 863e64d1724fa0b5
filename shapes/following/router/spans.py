"""An index of spans: finds those that a value lies in, at a cost that grows with their number.

An augmented search tree: spans in the order of their low bounds, each node with the highest bound
below it, so that subtrees which end before the value are skipped. Random priorities keep it balanced
(a treap): adding and removing take a logarithmic number of steps.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator
from random import Random
from typing import Any, Generic, TypeVar

from shapes.following.router.groups import BOTH, NEW, OLD, Found, Group, Tried
from shapes.following.router.members import Members, with_member, without_member
from shapes.following.router.operands import OperandReader
from shapes.where import Row, Span

S = TypeVar("S", bound=Hashable)

_random = Random(0).random
_High = tuple[Any, int] | None


class _Node(Generic[S]):
    """A span. `top` is the highest bound in the subtree, None if there is one without bound."""

    __slots__ = ("exact", "left", "priority", "right", "span", "top", "tried")

    def __init__(self, span: Span) -> None:
        self.span = span
        self.top: _High = span.high
        self.priority = _random()
        self.left: _Node[S] | None = None
        self.right: _Node[S] | None = None
        self.exact: Members[S] = ()
        self.tried: Members[Group[S]] = ()

    def renew(self) -> None:
        """Compute what depends on the nodes below."""
        top = self.span.high
        for child in (self.left, self.right):
            if top is not None and child is not None:
                top = None if child.top is None else max(top, child.top)
        self.top = top


class SpanLookup(Generic[S]):
    """An index by spans of one operand's values."""

    __slots__ = ("_groups", "_reader", "_root")

    def __init__(self, reader: OperandReader) -> None:
        self._reader = reader
        self._root: _Node[S] | None = None
        self._groups = 0

    def add(self, key: Span, subscriber: S) -> None:
        node = self._node(key)
        node.exact = with_member(node.exact, subscriber)

    def remove(self, key: Span, subscriber: S) -> None:
        node = self._node(key)
        node.exact = without_member(node.exact, subscriber)
        self._prune(node)

    def add_group(self, key: Span, group: Group[S]) -> None:
        node = self._node(key)
        node.tried = with_member(node.tried, group)
        self._groups += 1

    def remove_group(self, key: Span, group: Group[S]) -> None:
        node = self._node(key)
        node.tried = without_member(node.tried, group)
        self._groups -= 1
        self._prune(node)

    def load(self, key: Span) -> int:
        # How many spans overlap is not known: some.
        return self._groups // 4

    def __bool__(self) -> bool:
        return self._root is not None

    def everybody(self) -> tuple[Iterator[S], Iterator[Group[S]]]:
        nodes = list(_all(self._root))
        return (
            (one for node in nodes for one in node.exact),
            (one for node in nodes for one in node.tried),
        )

    def find(self, old: Row, new: Row, found: Found[S], tried: Tried[S]) -> None:
        if old is new or self._reader.same(old, new):
            self._collect(new, BOTH, found, tried)
        else:
            self._collect(old, OLD, found, tried)
            self._collect(new, NEW, found, tried)

    def _collect(self, row: Row, side: int, found: Found[S], tried: Tried[S]) -> None:
        value = self._reader.read(row)
        if value is None:
            return
        for node in _around(self._root, (value, 0)):
            for subscriber in node.exact:
                found[subscriber] = found.get(subscriber, 0) | side
            for group in node.tried:
                tried[group] = tried.get(group, 0) | side

    # -- nodes -------------------------------------------------------------------------------------

    def _node(self, span: Span) -> _Node[S]:
        """The node of a span, made if there is none."""
        node = self._root
        order = _order(span)
        while node is not None and node.span != span:
            node = node.left if order < _order(node.span) else node.right
        if node is None:
            node = _Node[S](span)
            self._root = _insert(self._root, node)
        return node

    def _prune(self, node: _Node[S]) -> None:
        if not node.exact and not node.tried:
            assert self._root is not None
            self._root = _delete(self._root, node)


def _order(span: Span) -> tuple[Any, bool, Any]:
    return span.low, span.high is None, span.high or ()


def _around(root: _Node[S] | None, point: tuple[Any, int]) -> Iterator[_Node[S]]:
    """The nodes whose span has a point."""
    left = [] if root is None else [root]
    while left:
        node = left.pop()
        top = node.top
        if top is not None and top < point:
            continue
        if node.left is not None:
            left.append(node.left)
        low, high = node.span
        if low <= point:
            if high is None or point <= high:
                yield node
            if node.right is not None:
                left.append(node.right)


def _all(root: _Node[S] | None) -> Iterator[_Node[S]]:
    left = [root]
    while left:
        node = left.pop()
        if node is not None:
            yield node
            left += (node.left, node.right)


def _insert(root: _Node[S] | None, node: _Node[S]) -> _Node[S]:
    """The tree with a node whose span it does not have yet."""
    if root is None:
        return node
    if node.priority > root.priority:
        node.left, node.right = _split(root, _order(node.span))
        node.renew()
        return node
    if _order(node.span) < _order(root.span):
        root.left = _insert(root.left, node)
    else:
        root.right = _insert(root.right, node)
    root.renew()
    return root


def _split(
    root: _Node[S] | None, order: tuple[Any, bool, Any]
) -> tuple[_Node[S] | None, _Node[S] | None]:
    """The spans before and after a place in the order."""
    if root is None:
        return None, None
    if _order(root.span) < order:
        root.right, after = _split(root.right, order)
        root.renew()
        return root, after
    before, root.left = _split(root.left, order)
    root.renew()
    return before, root


def _delete(root: _Node[S], node: _Node[S]) -> _Node[S] | None:
    """The tree without one of its nodes."""
    if root is node:
        return _joined(node.left, node.right)
    if _order(node.span) < _order(root.span):
        assert root.left is not None
        root.left = _delete(root.left, node)
    else:
        assert root.right is not None
        root.right = _delete(root.right, node)
    root.renew()
    return root


def _joined(before: _Node[S] | None, after: _Node[S] | None) -> _Node[S] | None:
    """Both trees as one; every span of the first comes before those of the second."""
    if before is None or after is None:
        return before or after
    if before.priority > after.priority:
        before.right = _joined(before.right, after)
        before.renew()
        return before
    after.left = _joined(before, after.left)
    after.renew()
    return after
