"""Runs as browsers follow them: through /realtime, by long polls, each with a token of its own.

Three questions, each also asked of `/v1/shape` with the same rows, which is the baseline: what it takes
to begin, what a change costs when every run has a reader of its own, and what a delivery costs when
all readers follow one tag. In the baseline nobody has a token, and equal requests are answered
together.
"""

from __future__ import annotations

import argparse
import asyncio
import random
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from bench.processes import Bystanders, cpu_seconds
from bench.readers import More, Receipts, shape, start_readers
from bench.report import Report, command, median, milliseconds
from bench.stack import STREAM_ID, BenchError, Stack, micros_per, open_stack
from bench.writer import Writer
from engine.postgres.migrate import migrate
from shapes.access.authority import Authority

SIZES = {
    "runs": (1_000, 50, "runs with a reader each, and readers of one tag"),
    "rate": (200.0, 20.0, "changes per second of runs with a reader each"),
    "tag_rate": (2.0, 2.0, "changes per second of what all readers follow"),
    "seconds": (6.0, 3.0, "duration of one measurement"),
    "rounds": (3, 1, "measurements of each kind"),
}
WARM_UP_SECONDS = 2.0
TOKEN_SECONDS = 86_400
AIM_MICROS = 45.0

_KEY = "tr_dev_of-the-benchmarks-0001"
_INSERT = """
    insert into pgtide.runs (id, task, tags, payload)
    select 'run_' || n, 'bench', array['all', 'tag_' || n], '{"video": "a.mp4", "quality": 7}'
    from generate_series(1, %s) as n
"""
_CHANGE = "update pgtide.runs set number = %s where id = %s"

Figures = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Way:
    """One way to follow: `queries` has what each reader asks for."""

    name: str
    queries: Sequence[str]
    more: More


Ways = Callable[[range], tuple[Way, Way]]
"""The way of runs and the baseline, for runs with these numbers."""


class Readings:
    """What is asked for; tokens are signed here, as a back end does it."""

    def __init__(self, stack: Stack) -> None:
        self._authority = Authority(stack.settings)

    def one_each(self, numbers: range) -> tuple[Way, Way]:
        """A reader per run."""
        paths = [f"/realtime/v1/runs/run_{number}?log=full" for number in numbers]
        tokens = [self._token(f"read:runs:run_{number}", number) for number in numbers]
        return _runs(paths, tokens), _plain([f"id = 'run_{number}'" for number in numbers])

    def one_tag(self, numbers: range) -> tuple[Way, Way]:
        """As many readers, all of one tag."""
        paths = ["/realtime/v1/runs?tags=all&createdAt=1h"] * len(numbers)
        tokens = [self._token("read:tags:all", number) for number in numbers]
        return _runs(paths, tokens), _plain(["tags @> '{all}'"] * len(numbers))

    def _token(self, scope: str, number: int) -> str:
        """No two are the same."""
        return self._authority.mint("default", [scope], TOKEN_SECONDS + number)


def _runs(paths: list[str], tokens: list[str]) -> Way:
    return Way("realtime", paths, {"path": "", "tokens": tokens, "sequence": "number"})


def _plain(conditions: list[str]) -> Way:
    queries = [shape(condition, "pgtide.runs") for condition in conditions]
    return Way("shape", queries, {"sequence": "number"})


def measure(report: Report, options: argparse.Namespace) -> None:
    with open_stack(secret_keys=(_KEY,)) as stack, stack.connect() as connection:
        report.postgres(stack.scalar("show server_version"))
        asyncio.run(migrate(stack.database_url, stream_id=STREAM_ID))
        # Those that are opened have to be others each time.
        connection.execute(_INSERT, (options.runs * (options.rounds + 1),))
        stack.start()
        readings, writer = Readings(stack), Writer(connection, _CHANGE)
        each = partial(_follow, stack, writer, options.rate, options.seconds)
        tag = partial(_follow, stack, writer, options.tag_rate, options.seconds)
        kinds: dict[str, tuple[Ways, Callable[[Way, range], Figures]]] = {
            "opening": (readings.one_each, partial(_open, stack)),
            "a reader per run": (readings.one_each, each),
            "readers of one tag": (readings.one_tag, tag),
        }
        for kind, (ways, ask) in kinds.items():
            rounds: list[dict[str, Figures]] = []
            for number in range(options.rounds + (kind == "opening")):
                first = number * options.runs if kind == "opening" else 0
                numbers = range(first + 1, first + options.runs + 1)
                rounds.append({way.name: ask(way, numbers) for way in ways(numbers)})
            # The first shapes of a table are opened by a node that has everything yet to learn.
            _conclude(report, kind, rounds[kind == "opening" :])


def _open(stack: Stack, way: Way, numbers: range) -> Figures:
    before = stack.cpu()
    with start_readers(stack.port, "open", way.queries, **way.more) as readers:
        after = stack.cpu()
        receipts = readers.take_until(len(numbers))
    # From the first to the last: starting the process is no part of it.
    times = sorted(at for _, at in receipts)
    seconds = (times[-1] - times[0]) / 1e9
    return {
        "per_second": round((len(times) - 1) / seconds, 1),
        "cpu_us": micros_per(len(numbers), before, after),
    }


def _follow(
    stack: Stack, writer: Writer, rate: float, seconds: float, way: Way, numbers: range
) -> Figures:
    choose = random.Random(1)
    # Each change reaches one reader, or all of them.
    each = 1 if len(set(way.queries)) > 1 else len(way.queries)

    def pick() -> list[int]:
        return [choose.choice(numbers)]

    with start_readers(stack.port, "long-poll", way.queries, **way.more) as readers:
        warm = writer.write_paced(rate, WARM_UP_SECONDS, pick)
        readers.take_until(warm * each)
        writer.forget()
        bystanders = Bystanders()
        before = stack.cpu() | {"clients": cpu_seconds([readers.pid])}
        written = writer.write_paced(rate, seconds, pick)
        receipts = readers.take_until(written * each)
        after = stack.cpu() | {"clients": cpu_seconds([readers.pid])}
        others = bystanders.share()
    _check(receipts, set(writer.sent), each)
    return {
        "from_statement": milliseconds([at - writer.sent[one] for one, at in receipts]),
        "from_commit": milliseconds([at - writer.committed[one] for one, at in receipts]),
        "cpu_us": micros_per(len(receipts), before, after),
        "others_share_of_cpu": round(others, 2),
    }


def _check(receipts: Receipts, sequences: set[int], each: int) -> None:
    counts = Counter(sequence for sequence, _ in receipts)
    if counts != dict.fromkeys(sequences, each):
        raise BenchError("what the readers got is not what was written")


def _conclude(report: Report, kind: str, rounds: list[dict[str, Figures]]) -> None:
    result: Figures = {}
    for way in rounds[0]:
        figures = [one[way] for one in rounds]
        result[way] = {"node_cpu_us": median([one["cpu_us"]["node"] for one in figures])}
        if kind == "opening":
            result[way]["per_second"] = median([one["per_second"] for one in figures])
        else:
            for name in ("p50_ms", "p99_ms"):
                result[way][name] = median([one["from_commit"][name] for one in figures])
        report.note(f"{kind}, {way}: {result[way]}")
    cost, baseline = result["realtime"]["node_cpu_us"], result["shape"]["node_cpu_us"]
    result |= {"ratio_to_shape": round(cost / max(baseline, 0.01), 2), "rounds": rounds}
    report.results[kind] = result
    if kind == "readers of one tag":
        report.at_most(f"{kind}: node CPU per delivery", cost, "µs", AIM_MICROS)


def main() -> None:
    command("run_updates", __doc__, SIZES, measure)


if __name__ == "__main__":
    main()
