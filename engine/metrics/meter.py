"""What the engine counts."""

from __future__ import annotations

import time

from engine.metrics.numbers import Metric, Numbers

MILLISECONDS = (
    *(0.01, 0.025, 0.05, 0.1, 0.2, 0.5, 1.0),
    *(2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 500.0, 1000.0, 5000.0, 60000.0),
)
SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 60.0)

_RECEIVE_LAG = "electric_postgres_replication_transaction_received_receive_lag"
_COMMIT_TO_LOG = "pgtide_commit_to_log_seconds"
_TRANSACTIONS = "pgtide_transactions_total"
_CHANGES = "pgtide_changes_total"

METRICS = (
    Metric(
        _RECEIVE_LAG,
        "histogram",
        "Time from a commit in Postgres until the engine has received it, in milliseconds.",
        bounds=MILLISECONDS,
    ),
    Metric(
        _COMMIT_TO_LOG,
        "histogram",
        "Time from a commit in Postgres until it is durable in the log and readers are woken.",
        bounds=SECONDS,
    ),
    Metric(_TRANSACTIONS, "counter", "Transactions written to the log."),
    Metric(_CHANGES, "counter", "Row changes written to the log."),
)


class Meter:
    """Counts transactions on their way into the log. Commit times are Unix microseconds."""

    def __init__(self, numbers: Numbers) -> None:
        region = numbers.region(0, METRICS)
        self._receive_lag = region.histogram(_RECEIVE_LAG)
        self._commit_to_log = region.histogram(_COMMIT_TO_LOG)
        self._transactions = region.number(_TRANSACTIONS)
        self._changes = region.number(_CHANGES)
        self._received: list[int] = []

    def received(self, commit_time: int) -> None:
        """A transaction is here as a whole."""
        # Clocks of two machines may differ by more than the lag.
        self._receive_lag.observe(max(time.time() * 1e3 - commit_time / 1e3, 0.0))
        self._received.append(commit_time)

    def durable(self, changes: int) -> None:
        """Everything received is in the log: so many changes."""
        now = time.time()
        for commit_time in self._received:
            self._commit_to_log.observe(max(now - commit_time / 1e6, 0.0))
        self._transactions.add(len(self._received))
        self._changes.add(changes)
        self._received.clear()
