"""Random histories, sent over connections that break: each committed change is in the log once."""

from __future__ import annotations

import random

import pytest
from exploring import examples
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from wal import Wal, connected, inserted

from engine.replication import transactions


class Server:
    """Random transactions, and what of them must be in the log in the end."""

    def __init__(self, seed: int, count: int) -> None:
        choose = random.Random(seed)
        self.expected: dict[int, list[str]] = {}
        self._steps: list[tuple[str, int, int, str]] = []
        lsn = 100
        queues = [self._transaction(choose, xid) for xid in range(10, 10 + 10 * count, 10)]
        while queues:
            queue = choose.choice(queues)
            self._steps.append(queue.pop(0))
            if not queue:
                queues.remove(queue)
        for place, (step, xid, _, text) in enumerate(self._steps):
            if step in ("commit", "whole"):
                lsn += choose.choice((8, 8, 50))
                self._steps[place] = (step, xid, lsn, text)
                if text:
                    self.expected[lsn] = text.split()

    def _transaction(self, choose: random.Random, xid: int) -> list[tuple[str, int, int, str]]:
        if choose.random() < 0.4:
            texts = [f"{xid}.{row}" for row in range(choose.randrange(0, 12))]
            return [("whole", xid, 0, " ".join(texts))]
        steps: list[tuple[str, int, int, str]] = []
        rows: dict[str, int] = {}
        aborted: set[int] = set()
        for _ in range(choose.randrange(1, 6)):
            free = [xid, *(sub for sub in range(xid + 1, xid + 5) if sub not in aborted)]
            subxid = choose.choice(free)
            texts = [f"{subxid}.{len(rows) + row}" for row in range(choose.randrange(1, 6))]
            rows.update(dict.fromkeys(texts, subxid))
            steps.append(("stream", xid, subxid, " ".join(texts)))
            if subxid != xid and choose.random() < 0.4:
                aborted.add(subxid)
                steps.append(("abort", xid, subxid, ""))
        if choose.random() < 0.2:
            return [*steps, ("abort", xid, xid, "")]
        left = " ".join(text for text, subxid in rows.items() if subxid not in aborted)
        return [*steps, ("commit", xid, 0, left)]

    def play(self, wal: Wal, after: int, steps: int, flush: int) -> int:
        """Send the first `steps` steps as far as they concern commits from `after` on. Every
        `flush` steps all is made durable. Answers where the log ends."""
        wal.relation()
        begun: set[int] = set()
        done = {xid for step, xid, lsn, _ in self._steps if step == "commit" and lsn < after}
        for place, (step, xid, number, text) in enumerate(self._steps[:steps]):
            match step:
                case "whole" if number >= after:
                    wal.whole(number, text.split(), xid)
                case "stream" if xid not in done:
                    with wal.stream(xid, first=xid not in begun):
                        if xid not in begun:
                            wal.relation()
                        begun.add(xid)
                        wal.subtransaction(number)
                        for row in text.split():
                            wal.insert(row)
                case "abort" if xid not in done:
                    wal.stream_abort(xid, number)
                case "commit" if xid not in done:
                    wal.stream_commit(xid, number)
                case _:
                    pass
            if place % flush == flush - 1:
                wal.flush()
        state = wal.writer.state
        assert state is not None
        return state.end_lsn

    def __len__(self) -> int:
        return len(self._steps)


@settings(
    max_examples=examples(80),
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(
    seed=st.integers(0, 2**32),
    count=st.integers(1, 12),
    block=st.sampled_from([0, 60, 200, 10_000]),
    spill=st.sampled_from([0, 300, 10_000]),
    flush=st.integers(1, 5),
    breaks=st.lists(st.tuples(st.integers(0, 40), st.booleans()), max_size=4),
)
def test_any_history_with_any_interruptions(
    tmp_path_factory: pytest.TempPathFactory,
    monkeypatch: pytest.MonkeyPatch,
    seed: int,
    count: int,
    block: int,
    spill: int,
    flush: int,
    breaks: list[tuple[int, bool]],
) -> None:
    """The connection breaks at some steps; each time the server begins at what was acknowledged:
    the end of the log, or (True) nothing."""
    monkeypatch.setattr(transactions, "BLOCK_BYTES", block)
    monkeypatch.setattr(transactions, "SPILL_BYTES", spill)
    folder = tmp_path_factory.mktemp("history") / "log"
    server = Server(seed, count)
    acknowledged, start = 0, 100
    for steps, forgetful in breaks:
        with connected(folder, start=start or None) as wal:
            reached = server.play(wal, acknowledged, steps, flush)
        acknowledged = acknowledged if forgetful else reached
        start = 0
    with connected(folder, start=start or None) as wal:
        server.play(wal, acknowledged, len(server), flush)
        wal.flush()
    assert inserted(folder) == server.expected
