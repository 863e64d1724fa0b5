"""What the Python SDK leaves out of metadata's operations does not matter to their result."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from pgtide.errors import InvalidRequestError
from pgtide.protocol.operations import OperationList, Pending
from shapes.runs.metadata_operations import apply_operations, parse_operations

KEYS = st.sampled_from(["a", "b", "$.a", "$.a.x", "$.b.0", "$.a.x.y", "a.x"])
VALUES = st.sampled_from([1, 2, "t", [1, 2], {"x": 1}, {"x": {"y": 5}}, None])
OPERATIONS = st.one_of(
    st.fixed_dictionaries({"type": st.just("set"), "key": KEYS, "value": VALUES}),
    st.fixed_dictionaries({"type": st.just("append"), "key": KEYS, "value": VALUES}),
    st.fixed_dictionaries({"type": st.just("remove"), "key": KEYS, "value": VALUES}),
    st.fixed_dictionaries({"type": st.just("delete"), "key": KEYS}),
    st.fixed_dictionaries({"type": st.just("increment"), "key": KEYS, "value": st.integers(-3, 3)}),
    st.fixed_dictionaries(
        {"type": st.just("update"), "value": st.sampled_from([{}, {"a": {"x": 1}, "b": [1]}])}
    ),
)


def applied(operations: list[dict[str, Any]]) -> dict[str, Any]:
    start: dict[str, Any] = {"a": {"x": 4}, "b": [7]}
    copied = orjson.loads(orjson.dumps(operations))
    found, _ = apply_operations(start, parse_operations(copied, "operations"))
    return orjson.loads(orjson.dumps(found))


def path_set(value: object) -> dict[str, object]:
    return {"type": "set", "key": "$.a", "value": value}


@given(st.lists(OPERATIONS, max_size=12))
@example([path_set(None), path_set(1)])
@example([path_set(1), path_set(None), path_set(2)])
def test_the_server_makes_the_same_of_what_is_left(operations: list[dict[str, Any]]) -> None:
    noted = OperationList()
    for operation in operations:
        noted.add(dict(operation))
    left = noted.take()
    assert len(left) <= len(operations)
    assert applied(left) == applied(operations)


def test_a_thousand_steps_of_a_progress_bar_are_three_operations() -> None:
    noted = OperationList()
    for number in range(1000):
        noted.add({"type": "set", "key": "progress", "value": number / 1000})
        noted.add({"type": "set", "key": "$.step.name", "value": str(number)})
        noted.add({"type": "increment", "key": "rows", "value": 2})
    assert noted.take() == [
        {"type": "set", "key": "$.step.name", "value": "999"},
        {"type": "increment", "key": "rows", "value": 2000},
        {"type": "set", "key": "progress", "value": 0.999},
    ]


def test_what_was_sent_and_not_settled_is_sent_again_as_it_was() -> None:
    pending = Pending()
    pending.add("operations", {"type": "increment", "key": "n", "value": 1})
    first = pending.next_delivery()
    assert first is not None
    pending.add("operations", {"type": "increment", "key": "n", "value": 1})
    assert pending.next_delivery() is first
    pending.settled(first)
    second = pending.next_delivery()
    assert second is not None
    assert (second.body, second.key != first.key) == (first.body, True)
    pending.settled(second)
    assert pending.is_empty
    assert pending.next_delivery() is None


def test_a_value_is_sent_as_it_was_when_it_was_noted() -> None:
    pending, values = Pending(), [1]
    pending.add("operations", {"type": "set", "key": "n", "value": values})
    values.append(2)
    delivery = pending.next_delivery()
    assert delivery is not None
    assert orjson.loads(delivery.body)["operations"][0]["value"] == [1]


@pytest.mark.parametrize("key", ["__proto__", "$.", "$.a.constructor", "$.__proto__.x", 7])
def test_keys_that_the_server_refuses_are_refused_at_once(key: Any) -> None:
    with pytest.raises(InvalidRequestError):
        Pending().add("operations", {"type": "set", "key": key, "value": 1})
    with pytest.raises(InvalidRequestError, match="JSON"):
        Pending().add("operations", {"type": "set", "key": "a", "value": object()})
