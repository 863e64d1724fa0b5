"""Random operations on random metadata have the effect that @trigger.dev/core gives them.

PGTIDE_SEED repeats a run (each prints how). Where core comes to arrays with holes, or with members that
are no elements, and goes on with them, it is not compared: JSON has no such arrays.
"""

from __future__ import annotations

import copy
from collections import Counter
from random import Random
from typing import Any, cast

import orjson
import pytest
from core_judge import judged

from shapes.runs.metadata_operations import Operation, apply_operations

CASES = 4000

NAMES = ("a", "b", "l", "a.b", "a\\b", "*", "x~1y", "x/y", "", "[0:1]", "$.a", "0")
STEPS = (
    *("a", "b", "l", "0", "1", "2", "01", "-1", "*", "[0:2]", "[1:]", "[:1]", "[0:-1]"),
    *("a\\.b", "a\\\\b", "a\\", "x~1y", "l[0]", "", "$", "é"),
)
UNSAFE = ("__proto__", "$.__proto__", "$.a.constructor", "$.a\\.prototype", "$.", "$..", "$")
NUMBERS = (0, 1, -1, 2, 0.5, 1.0, -0.25, 0.1, 1e15, 2**53, 2**53 + 1, 2**60, 1e19, 1e21, 1e308)


def value(random: Random, depth: int = 0) -> Any:
    kind = random.random()
    if depth < 3 and kind < 0.25:
        return {random.choice(NAMES): value(random, depth + 1) for _ in range(random.randint(0, 3))}
    if depth < 3 and kind < 0.5:
        return [value(random, depth + 1) for _ in range(random.randint(0, 4))]
    if kind < 0.75:
        return random.choice(NUMBERS)
    return random.choice((None, True, False, "", "x", "1", "é"))


def key(random: Random) -> str:
    kind = random.random()
    if kind < 0.35:
        return random.choice(NAMES)
    if kind < 0.4:
        return random.choice(UNSAFE)
    return ".".join(("$", *(random.choice(STEPS) for _ in range(random.randint(1, 4)))))


def operation(random: Random) -> dict[str, Any]:
    kind = random.choice(
        ("set", "set", "append", "append", "remove", "increment", "delete", "update")
    )
    match kind:
        case "update":
            return {
                "type": kind,
                "value": metadata(random),
            }
        case "delete":
            return {"type": kind, "key": key(random)}
        case "increment":
            return {"type": kind, "key": key(random), "value": random.choice(NUMBERS)}
        case _:
            return {"type": kind, "key": key(random), "value": value(random, random.randint(0, 3))}


def metadata(random: Random) -> dict[str, Any]:
    made = {random.choice(NAMES): value(random, 1) for _ in range(random.randint(0, 4))}
    if random.random() < 0.5:
        made["l"] = [value(random, 2) for _ in range(random.randint(0, 4))]
    return made


def ours(case: dict[str, Any]) -> tuple[bytes, list[int]]:
    case = copy.deepcopy(case)
    operations = [
        Operation(one["type"], one.get("key", ""), one.get("value")) for one in case["operations"]
    ]
    result, unapplied = apply_operations(case["metadata"], operations)
    positions = [
        index for index, one in enumerate(operations) if any(one is it for it in unapplied)
    ]
    return canonical(orjson.loads(orjson.dumps(result))), positions


def canonical(value: Any) -> bytes:
    return orjson.dumps(plain(value), option=orjson.OPT_SORT_KEYS)


def plain(value: Any) -> Any:
    """With all numbers as JavaScript has them."""
    match value:
        case bool():
            return value
        case int() | float():
            return float(value)
        case list():
            return list(map(plain, cast("list[Any]", value)))
        case dict():
            return {name: plain(item) for name, item in cast("dict[str, Any]", value).items()}
        case _:
            return value


def test_operations_do_what_they_do_in_the_sdk(seed: str) -> None:
    random = Random(seed)
    cases = [
        {
            "metadata": metadata(random),
            "operations": [operation(random) for _ in range(random.randint(1, 6))],
        }
        for _ in range(CASES)
    ]
    seen: Counter[str] = Counter()
    for case, theirs in zip(cases, judged("operations", cases), strict=True):
        if "odd" in theirs:
            seen["odd"] += 1
            continue
        if "circular" in theirs.get("thrown", ""):
            with pytest.raises(orjson.JSONEncodeError):
                ours(case)
            continue
        result, unapplied = ours(case)
        if "thrown" in theirs:
            # It gives up on the whole list; here only the operation is not applied.
            assert unapplied, orjson.dumps(case)
            seen["thrown"] += 1
            continue
        assert unapplied == theirs["unapplied"], orjson.dumps(case)
        assert result == canonical(theirs["metadata"]), orjson.dumps(case)
        seen["changed" if result != canonical(case["metadata"]) else "same"] += 1
        seen["unapplied"] += bool(unapplied)
    # A generator that makes nothing but failures would prove nothing.
    assert seen["changed"] > CASES / 2, seen
    assert min(seen["unapplied"], seen["thrown"]) > CASES / 100, seen
    assert seen["odd"] < CASES / 20, seen
