"""What it costs to find the shapes of a change among many shapes of one kind.

Everything happens in this process: the conditions are parsed and put into a router, then random
changes are routed. An update touches one row and changes one number that no condition reads, unless
it says otherwise, so that a shape that has the row keeps it. The baseline is to try every distinct
condition on the changed row.
"""

from __future__ import annotations

import argparse
import gc
import time
import tracemalloc
from random import Random
from typing import NamedTuple

from bench.report import Report, command, median
from engine.postgres.table import Column, Table
from shapes.following.router import Router
from shapes.where import Condition, Row, parse_where

SIZES = {
    "shapes": (10_000, 500, "shapes of each kind"),
    "changes": (4_000, 200, "changes per measurement"),
    "rounds": (5, 1, "measurements, of which the median counts"),
}
TABLE = Table(
    4711,
    "public",
    "items",
    (
        Column("id", "text", 25, key_index=0, not_null=True, collation="C"),
        Column("org", "text", 25, collation="C"),
        Column("tags", "text", 1009, dims=1, collation="C"),
        Column("status", "text", 25, collation="C"),
        Column("progress", "int4", 23),
        Column("seq", "int8", 20),
        Column("title", "text", 25, collation="C"),
        Column("updated_at", "timestamptz", 1184),
    ),
)
COLUMNS = {column.name: column for column in TABLE.columns}
POSITIONS = {column.name: place for place, column in enumerate(TABLE.columns)}
PROGRESS, TITLE = POSITIONS["progress"], POSITIONS["title"]
STATUSES = ("QUEUED", "EXECUTING", "COMPLETED", "FAILED")
WORDS = 5_000
AIM_MICROS = 20.0
AIM_SCAN_MICROS = 3_300.0


class Workload(NamedTuple):
    """A filter with places for numbers that differ among the shapes; whether updates change the text
    `title`, too; how many microseconds a change may cost."""

    name: str
    where: str
    retitled: bool = False
    aim: float = AIM_MICROS

    def text(self, number: int, shapes: int) -> str:
        """The filter of a shape out of so many."""
        step = 100_000 / shapes
        return self.where.format(
            n=number,
            next=number + 1,
            low=int(number * step),
            high=int((number + 5) * step),
            top=99_990 + number * 10 // shapes,
            org=number // 10,
            digit=number % 10,
            status=STATUSES[number % 4],
        )


NO_INDEX = "length(title) <> {n} AND title < org"
WORKLOADS = (
    Workload("equality", "id = 'run_{n}'"),
    Workload("IN", "id IN ('run_{n}', 'run_{next}', 'other_{n}')"),
    Workload("= ANY(tags)", "'user_{n}' = ANY (tags)"),
    Workload("tags @> two", "tags @> ARRAY['user_{n}', 'kind_{digit}']"),
    Workload("tags && two", "tags && ARRAY['user_{n}', 'user_{next}']"),
    Workload("range of two bounds", "seq >= {low} AND seq < {high}"),
    Workload("range of one bound", "seq > {top}"),
    Workload("two equalities", "org = 'org_{org}' AND status = '{status}' AND id = 'run_{n}'"),
    Workload(
        "equality and a rest", "org = 'org_{org}' AND status <> '{status}' AND seq > {digit}0000"
    ),
    Workload("tag or equality", "'user_{n}' = ANY (tags) OR id = 'run_{n}'"),
    Workload("LIKE 'prefix%'", "title LIKE 'title {n} %'"),
    Workload("equality of an expression", "length(id) = {n}"),
    Workload("ILIKE, the text stays", "title ILIKE '%Word {n}x%'", aim=AIM_SCAN_MICROS),
    Workload("ILIKE, the text changes", "title ILIKE '%Word {n}x%'", True, AIM_SCAN_MICROS),
    Workload("ILIKE, 10 distinct", "title ILIKE '%Word {digit}x%'", retitled=True),
    Workload("no index, the text stays", NO_INDEX, aim=AIM_SCAN_MICROS),
    Workload("no index, the text changes", NO_INDEX, retitled=True, aim=2 * AIM_SCAN_MICROS),
)


INDEXED = {one.name for one in WORKLOADS if one.aim == AIM_MICROS}


def measure(report: Report, options: argparse.Namespace) -> None:
    for workload in WORKLOADS:
        _measure(report, workload, options)


def _measure(report: Report, workload: Workload, options: argparse.Namespace) -> None:
    shapes: int = options.shapes
    texts = [workload.text(number, shapes) for number in range(shapes)]
    conditions = [parse_where(text, {}, TABLE) for text in texts]
    subscribers = [f"shape {number}" for number in range(shapes)]
    began = time.process_time()
    memory, router = _fill(conditions, subscribers)
    filling = (time.process_time() - began) / shapes
    count = options.changes if workload.name in INDEXED else max(options.changes // 8, 300)
    changes = _changes(shapes, count, retitled=workload.retitled)
    costs: list[float] = []
    gc.collect()
    for _ in range(options.rounds):
        began = time.process_time()
        for old, new in changes:
            router.route(old, new)
        costs.append((time.process_time() - began) / len(changes) * 1e6)
    found = sum(len(router.route(old, new)) for old, new in changes)
    cost, baseline = median(costs), _try_all(conditions, changes)
    began = time.process_time()
    for subscriber in subscribers:
        router.remove(subscriber)
    removing = (time.process_time() - began) / shapes
    report.results[workload.name] = {
        "cpu_us_per_change": round(cost, 2),
        "shapes_per_change": round(found / len(changes), 2),
        "trying_all_us_per_change": round(baseline, 1),
        "ratio_to_trying_all": round(cost / baseline, 5),
        "bytes_per_shape": memory,
        "adding_us": round(filling * 1e6, 1),
        "removing_us": round(removing * 1e6, 1),
        "rounds": [round(one, 2) for one in costs],
    }
    report.note(f"{workload.name}: {cost:.1f} µs per change, trying all {baseline:.0f} µs")
    report.at_most(f"{workload.name}: CPU per change", cost, "µs", workload.aim)


def _fill(conditions: list[Condition], subscribers: list[str]) -> tuple[int, Router[str]]:
    """A router with all of them, and its memory per subscriber in bytes before the first change."""
    router = Router[str](POSITIONS, COLUMNS)
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    for subscriber, condition in zip(subscribers, conditions, strict=True):
        router.add(subscriber, condition)
    used = tracemalloc.get_traced_memory()[0] - before
    tracemalloc.stop()
    for subscriber in subscribers:
        router.remove(subscriber)
    for subscriber, condition in zip(subscribers, conditions, strict=True):
        router.add(subscriber, condition)
    return used // len(subscribers), router


def _changes(shapes: int, count: int, *, retitled: bool) -> list[tuple[Row, Row]]:
    random = Random(1)
    found: list[tuple[Row, Row]] = []
    for _ in range(count):
        number = random.randrange(shapes)
        old = _row(random, number)
        new = list(old)
        new[PROGRESS] = str(int(str(old[PROGRESS])) + 1)
        if retitled:
            new[TITLE] = _title(random, number)
        found.append((old, new))
    return found


def _row(random: Random, number: int) -> list[str | int | None]:
    return [
        f"run_{number}",
        f"org_{number // 10}",
        f"{{user_{number},kind_{number % 10}}}",
        random.choice(STATUSES),
        str(random.randrange(100)),
        str(random.randrange(100_000)),
        _title(random, number),
        "2026-01-01 00:00:00+00",
    ]


def _title(random: Random, number: int) -> str:
    words = " ".join(f"word {random.randrange(WORDS)}x" for _ in range(6))
    return f"title {number} of {words}"


def _try_all(conditions: list[Condition], changes: list[tuple[Row, Row]]) -> float:
    """CPU microseconds to try every distinct condition on a new row."""
    distinct = {condition.sql: condition for condition in conditions}
    tests = [condition.compile(POSITIONS) for condition in distinct.values()]
    began = time.process_time()
    rows = [new for _, new in changes[:20]]
    for new in rows:
        for test in tests:
            test(new)
    return (time.process_time() - began) / len(rows) * 1e6


def main() -> None:
    command("routing", __doc__, SIZES, measure)


if __name__ == "__main__":
    main()
