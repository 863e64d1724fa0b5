"""Operations on metadata: what each does, what it leaves alone, and what is no operation."""

from __future__ import annotations

import time
from typing import Any

import orjson
import pytest

from shapes.runs.metadata_operations import (
    InvalidOperationError,
    Operation,
    TooMuchWorkError,
    add,
    apply_operations,
    deep_equal,
    parse_operations,
)


def changed(metadata: str, *operations: tuple[str, str, Any]) -> tuple[Any, int]:
    """The metadata afterwards, and how many operations were not applied."""
    listed = [Operation(*operation) for operation in operations]
    result, unapplied = apply_operations(orjson.loads(metadata), listed)
    return result, len(unapplied)


@pytest.mark.parametrize(
    ("metadata", "operation", "expected"),
    [
        ("{}", ("set", "a", 1), {"a": 1}),
        ("{}", ("set", "a.b", 1), {"a.b": 1}),
        ('{"a": {"b": 1}}', ("set", "$.a.b", 2), {"a": {"b": 2}}),
        ("{}", ("set", "$.top", 2), {"top": 2}),
        ("{}", ("set", "$.deep.k", 2), {}),
        ('{"l": [1, 2]}', ("set", "$.l.1", 9), {"l": [1, 9]}),
        ('{"l": [1]}', ("set", "$.l[1]", 9), {"l": [1], "l[1]": 9}),
        ('{"l": [1]}', ("set", "$.l.3", 9), {"l": [1, None, None, 9]}),
        ('{"a": null}', ("set", "$.a", 9), {"a": None}),
        ('{"a": {"x": 1}, "b": {}}', ("set", "$.*.x", 9), {"a": {"x": 9}, "b": {"x": 9}}),
        ('{"l": [1, 2, 3]}', ("set", "$.l.[1:]", 9), {"l": [1, 9, 9]}),
        # A member's name is read as part of a path, and the array there is a copy then.
        ('{"*": [1], "b": [2]}', ("set", "$.*.0", 9), {"*": [1], "b": [9]}),
        ('{"a": 1}', ("delete", "a", None), {}),
        ('{"a": 1}', ("delete", "b", None), {"a": 1}),
        ('{"a": 1}', ("delete", "$.a", None), {"a": 1}),
        ("{}", ("append", "l", 1), {"l": [1]}),
        ('{"l": 0}', ("append", "l", 1), {"l": [0, 1]}),
        ('{"l": [0]}', ("append", "l", [1]), {"l": [0, [1]]}),
        ('{"a": {"l": [0]}}', ("append", "$.a.l", 1), {"a": {"l": [0, 1]}}),
        ('{"l": [1, {"x": [1]}, 1]}', ("remove", "l", {"x": [1]}), {"l": [1, 1]}),
        ('{"l": [1, true, 1.0]}', ("remove", "l", 1), {"l": [True]}),
        ("{}", ("increment", "n", -2), {"n": -2}),
        ('{"n": "x"}', ("increment", "n", 2), {"n": 2}),
        ('{"n": true}', ("increment", "n", 2), {"n": 2}),
        ('{"a": {"n": 0.5}}', ("increment", "$.a.n", 0.5), {"a": {"n": 1}}),
        ('{"a": 1}', ("update", "", {"b": 2}), {"b": 2}),
    ],
)
def test_what_is_applied(metadata: str, operation: tuple[str, str, Any], expected: Any) -> None:
    assert changed(metadata, operation) == (expected, 0)


@pytest.mark.parametrize(
    "operation",
    [
        ("remove", "missing", 1),
        ("remove", "n", 1),
        ("remove", "$.o.missing", 1),
        ("set", "__proto__", 1),
        ("set", "$.o.constructor", 1),
        ("set", "$.", 1),
        ("set", "$..", 1),
        ("append", "$.o.prototype.x", 1),
        ("delete", "__proto__", None),
        ("set", "$.*.*.y", 1),
        ("paint", "n", 1),
    ],
)
def test_what_is_not_applied_changes_nothing(operation: tuple[str, str, Any]) -> None:
    metadata = '{"n": 1, "o": {"x": null}}'
    assert changed(metadata, operation) == (orjson.loads(metadata), 1)


def test_the_order_counts() -> None:
    assert changed(
        '{"gone": 1}',
        ("update", "", {"n": 1}),
        ("increment", "n", 1),
        ("append", "n", 5),
        ("remove", "n", 2),
        ("remove", "m", 2),
        ("set", "$.n.1", "x"),
    ) == ({"n": [5, "x"]}, 1)


@pytest.mark.parametrize(
    ("left", "right", "printed"),
    [
        (1, 1, b"2"),
        (0.1, 0.2, b"0.30000000000000004"),
        (1.5, 1.5, b"3"),
        (-0.5, 0.5, b"0"),
        (9007199254740992, 1, b"9007199254740992"),
        (9007199254740993, 1, b"9007199254740992"),
        (2**59, 2**59, b"1152921504606847000"),
        (1e308, 1e308, b"null"),
    ],
)
def test_numbers_are_those_of_javascript(left: float, right: float, printed: bytes) -> None:
    assert orjson.dumps(add(left, right)) == printed


@pytest.mark.parametrize(
    ("left", "right", "equal"),
    [
        (1, 1.0, True),
        (1, True, False),
        (0, False, False),
        (None, False, False),
        ("1", 1, False),
        ([], {}, False),
        ([1, [2]], [1, [2]], True),
        ({"a": 1, "b": 2}, {"b": 2, "a": 1}, True),
        ({"a": 1}, {"a": 1, "b": None}, False),
        (9007199254740993, 9007199254740992, True),
    ],
)
def test_deep_equality(left: Any, right: Any, equal: bool) -> None:
    assert deep_equal(left, right) is equal


@pytest.mark.parametrize(
    ("items", "complaint"),
    [
        ("{}", "operations must be an array"),
        ("[1]", r"operations\[0\] must be an object"),
        ('[{"type": "paint", "key": "a"}]', r"\[0\].type must be one of append, delete"),
        ('[{"type": "set", "value": 1}]', "key must be a string"),
        ('[{"type": "set", "key": "a"}]', "value is missing"),
        ('[{"type": "increment", "key": "a", "value": "1"}]', "must be a number"),
        ('[{"type": "increment", "key": "a", "value": true}]', "must be a number"),
        ('[{"type": "update", "value": [1]}]', "must be an object"),
        ('[{"type": "delete", "key": "__proto__"}]', "may not name"),
        ('[{"type": "set", "key": "$.a\\\\.constructor", "value": 1}]', "may not name"),
        ('[{"type": "set", "key": "$.", "value": 1}]', "below"),
    ],
)
def test_what_is_no_operation(items: str, complaint: str) -> None:
    with pytest.raises(InvalidOperationError, match=complaint):
        parse_operations(orjson.loads(items), "operations")


def test_operations_as_the_sdk_sends_them() -> None:
    text = b"""[{"type": "set", "key": "a", "value": null}, {"type": "delete", "key": "a"},
        {"type": "update", "value": {}}]"""
    assert parse_operations(orjson.loads(text), "operations") == [
        Operation("set", "a", None),
        Operation("delete", "a"),
        Operation("update", "", {}),
    ]
    assert parse_operations(None, "operations") == []


@pytest.mark.parametrize(
    "operation",
    [Operation("set", "$.*", 1), Operation("remove", "l", {"x": 2}), Operation("append", "$.l", 1)],
)
def test_no_list_of_operations_keeps_a_node_busy(operation: Operation) -> None:
    metadata = {"l": [{"x": 1}] * 20000} | {f"k{index}": 0 for index in range(20000)}
    begin = time.process_time()
    with pytest.raises(TooMuchWorkError):
        apply_operations(metadata, [operation] * 20000)
    assert time.process_time() - begin < 5


def test_an_array_cannot_be_made_long_by_its_index() -> None:
    metadata = '{"l": []}'
    assert changed(metadata, ("set", "$.l.4000000000", 1)) == ({"l": []}, 1)
    longer: list[tuple[str, str, Any]] = []
    for n in range(99):
        longer += (("set", f"l{n}", []), ("set", f"$.l{n}.60000", 1))
    with pytest.raises(TooMuchWorkError):
        changed("{}", *longer)


def test_nothing_is_nested_too_deeply_to_be_compared() -> None:
    deep = "[" * 1000 + "]" * 1000
    item = orjson.loads(f"[{deep}]")
    assert changed("{}", ("append", "l", item), ("remove", "l", orjson.loads(f"[{deep}]")))[1] <= 1
