"""Numbers that processes share, and the page that shows them."""

from __future__ import annotations

import math
import multiprocessing
import os

import pytest
from exploring import examples
from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from engine.metrics.exposition import Family, merged, text_of
from engine.metrics.meter import METRICS, Meter
from engine.metrics.numbers import REGIONS, Metric, Numbers
from shapes.http import meter as node

COUNT = Metric("count_total", "counter", "Things.", "kind", ("a", "b"))
LEVEL = Metric("level", "gauge", "How high.", merge="max")
SUM = Metric("inside", "gauge", "How many.")
TIME = Metric("time", "histogram", "How long.", bounds=(0.1, 1.0))
ALL = (COUNT, LEVEL, SUM, TIME)


def samples(text: str) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    """What a real parser reads."""
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def page(numbers: Numbers) -> str:
    return text_of(merged(numbers.read(number) for number in range(REGIONS)))


def test_processes_are_added_up() -> None:
    numbers = Numbers()
    for number, level in ((1, 5.0), (3, 2.5), (REGIONS - 1, 1.0)):
        region = numbers.region(number, ALL)
        region.number("count_total", "b").add(number)
        region.number("level").set(level)
        region.number("inside").set(2)
        for value in (0.05, 0.1, 0.5, 7.0):
            region.histogram("time").observe(value)
    found = samples(page(numbers))
    assert found["count_total", (("kind", "a"),)] == 0
    assert found["count_total", (("kind", "b"),)] == 1 + 3 + REGIONS - 1
    assert found["level", ()] == 5
    assert found["inside", ()] == 6
    buckets = {edge: found["time_bucket", (("le", edge),)] for edge in ("0.1", "1.0", "+Inf")}
    assert buckets == {"0.1": 6, "1.0": 9, "+Inf": 12}
    assert found["time_count", ()] == 12
    assert found["time_sum", ()] == pytest.approx(3 * 7.65)


def test_counters_go_on_in_a_process_that_is_started_again() -> None:
    numbers = Numbers()
    for _ in range(2):
        region = numbers.region(1, ALL)
        region.number("count_total", "a").add(2)
        region.number("inside").add(3)
        region.histogram("time").observe(1.0)
    found = samples(page(numbers))
    assert found["count_total", (("kind", "a"),)] == 4
    assert found["inside", ()] == 3
    assert found["time_count", ()] == 2


def test_a_process_of_another_version_begins_anew() -> None:
    numbers = Numbers()
    numbers.region(1, ALL).number("count_total", "a").add(2)
    numbers.region(1, ALL[::-1]).number("inside").add(1)
    found = samples(page(numbers))
    assert found["count_total", (("kind", "a"),)] == 0
    assert found["inside", ()] == 1


def test_another_process_counts_in_the_same_file() -> None:
    numbers = Numbers()
    peer = numbers.peer(2, ALL)
    process = multiprocessing.get_context("fork").Process(
        target=lambda: numbers.region(2, ALL).number("inside").add(7)
    )
    process.start()
    process.join()
    assert peer.number("inside").value == 7
    assert samples(page(numbers))["inside", ()] == 7


def test_more_nodes_than_regions_do_no_harm() -> None:
    numbers = Numbers()
    numbers.region(REGIONS, ALL).number("inside").add(7)
    numbers.peer(REGIONS + 5, ALL).number("inside")
    assert page(numbers) == ""


def test_there_is_room_for_all_metrics() -> None:
    numbers = Numbers()
    Meter(numbers)
    node.NodeMeter(numbers, 1, 1)
    found = list(text_string_to_metric_families(page(numbers)))
    assert len(found) == len(METRICS) + len(node.METRICS)
    assert all(family.documentation for family in found)


def test_the_file_does_not_grow() -> None:
    numbers = Numbers()
    size = os.fstat(numbers.fileno()).st_size
    region = numbers.region(1, ALL)
    for number in range(10_000):
        region.histogram("time").observe(number)
        region.number("count_total", "a").add()
    assert os.fstat(numbers.fileno()).st_size == size < 4 << 20


def test_the_engine_counts_transactions() -> None:
    numbers = Numbers()
    meter = Meter(numbers)
    meter.received(0)
    meter.received(2**62)
    meter.durable(5)
    found = samples(page(numbers))
    assert found["pgtide_transactions_total", ()] == 2
    assert found["pgtide_changes_total", ()] == 5
    # A clock that is ahead of ours is no negative lag.
    assert found["pgtide_commit_to_log_seconds_bucket", (("le", "0.001"),)] == 1
    assert found["electric_postgres_replication_transaction_received_receive_lag_count", ()] == 2


names = st.from_regex(r"[a-z_][a-z0-9_]{0,20}", fullmatch=True)
# Those that begin with two underscores are Prometheus's own.
label_names = names.filter(lambda one: not one.startswith("__"))
numbers_shown = st.floats(allow_nan=False, allow_infinity=False) | st.integers(-(2**53), 2**53)


@settings(max_examples=examples(25))
@given(name=names, label=label_names, text=st.text(max_size=30), value=numbers_shown)
def test_every_label_and_value_is_read_back(name: str, label: str, text: str, value: float) -> None:
    text = text.replace("\r", "").replace("\x85", "").replace("\u2028", "").replace("\u2029", "")
    text = "".join(letter for letter in text if letter == "\n" or letter.isprintable())
    family = Family(name, "gauge", text, [("", {label: text}, value)])
    (((found, labels), number),) = samples(text_of([family])).items()
    assert found == name
    assert labels == ((label, text),)
    assert math.isclose(number, value, rel_tol=1e-15)
