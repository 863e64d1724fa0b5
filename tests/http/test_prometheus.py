"""Metrics of real processes, on a port of their own."""

from __future__ import annotations

import time
from collections.abc import Callable

import httpx
from follower import Follower, ask
from metrics_page import metrics_url, scrape
from raw import connected
from serving import Serving
from tables import Tables

CURATED = {
    "electric_shapes_total_shapes_count",
    "electric_shapes_active_shapes_count",
    "electric_postgres_replication_slot_retained_wal_size",
    "electric_postgres_replication_slot_confirmed_flush_lsn_lag",
    "electric_postgres_replication_transaction_received_receive_lag_count",
    'electric_plug_serve_shape_requests_count{status="200"}',
    'electric_admission_control_acquire_current{kind="initial"}',
    'electric_admission_control_acquire_current{kind="existing"}',
    'electric_admission_control_reject_count{kind="initial"}',
    'electric_admission_control_reject_count{kind="existing"}',
}


def until(server: Serving, condition: Callable[[dict[str, float]], bool]) -> dict[str, float]:
    """Metrics once they are so; some are looked at once a second only."""
    deadline = time.monotonic() + 15
    while not condition(values := scrape(server)):
        assert time.monotonic() < deadline, values
        time.sleep(0.1)
    return values


def test_what_happens_is_counted(strict: Serving, strict_tables: Tables) -> None:
    before = scrape(strict)
    assert before.keys() >= CURATED
    name = strict_tables.make("id int primary key")
    strict_tables.run(f"insert into {name} select * from generate_series(1, 37)")
    reader = Follower(strict.url, name).sync()
    assert ask(strict.url, table=name, offset="x").status == 400
    live = f"table={name}&handle={reader.handle}&offset={reader.offset}&live=true"
    with connected(strict.url) as poll, connected(strict.url) as stream:
        poll.send(f"GET /v1/shape?{live} HTTP/1.1\r\n\r\n".encode())
        stream.send(f"GET /v1/shape?{live}&live_sse=true HTTP/1.1\r\n\r\n".encode())
        assert stream.head()[0] == 200
        waiting = ('pgtide_readers{mode="long_poll"}', 'pgtide_readers{mode="sse"}')
        until(strict, lambda now: all(now[mode] >= 1 for mode in waiting))
        strict_tables.run(f"insert into {name} select * from generate_series(38, 40)")
        assert poll.answer().status == 200
        assert stream.until(b"up-to-date").count(b'"insert"') == 3
    deliveries = (
        'pgtide_deliveries_total{mode="long_poll"}',
        'pgtide_deliveries_total{mode="sse"}',
    )
    after = until(strict, lambda now: all(now[mode] >= before[mode] + 1 for mode in deliveries))

    def grew(metric: str) -> float:
        return after[metric] - before[metric]

    requests = "electric_plug_serve_shape_requests_count"
    assert grew(f'{requests}{{status="200"}}') >= 4
    assert grew(f'{requests}{{status="400"}}') == 1
    for kind in ("snapshot", "catch_up", "long_poll", "sse"):
        assert grew(f'pgtide_requests_total{{kind="{kind}"}}') >= 1
    assert grew('pgtide_snapshots_total{outcome="done"}') == 1
    assert grew("pgtide_snapshot_rows_total") == 37
    assert grew("pgtide_snapshot_seconds_count") == 1
    assert grew("pgtide_transactions_total") >= 1
    assert grew("pgtide_changes_total") >= 3
    assert grew("pgtide_commit_to_log_seconds_count") >= 1
    assert grew("electric_postgres_replication_transaction_received_receive_lag_count") >= 1
    assert 0 < grew("pgtide_commit_to_log_seconds_sum") < 10
    assert after["electric_shapes_total_shapes_count"] >= 1
    assert after["electric_shapes_active_shapes_count"] >= 1
    assert after["pgtide_postgres_up"] == 1
    assert after["pgtide_log_file_bytes"] > 0
    assert after["pgtide_log_horizon_age_seconds"] > 0
    assert after["electric_postgres_replication_slot_retained_wal_size"] > 0


def test_all_processes_are_shown(strict: Serving) -> None:
    values = scrape(strict)
    for process in ("supervisor", "engine", "node-1", "node-2"):
        assert values[f'pgtide_process_cpu_seconds_total{{process="{process}"}}'] > 0
        assert values[f'pgtide_process_resident_bytes{{process="{process}"}}'] > 10 << 20


def test_nothing_else_is_there(strict: Serving) -> None:
    url = metrics_url(strict)
    assert httpx.get(f"{url}/more").status_code == 404
    assert httpx.get(url.removesuffix("/metrics")).status_code == 404
    assert httpx.post(url).status_code in (404, 405, 501)
    head = httpx.head(url)
    assert (head.status_code, head.content) == (200, b"")
    # Not on the port that everybody can reach.
    assert httpx.get(f"{strict.url}/metrics").status_code == 404


def test_counters_outlive_a_node(strict: Serving, strict_tables: Tables) -> None:
    name = strict_tables.make("id int primary key")
    Follower(strict.url, name).sync()
    counter = 'pgtide_requests_total{kind="snapshot"}'
    before = scrape(strict)[counter]
    for pid in strict.node_pids():
        strict.kill_node(pid)
    assert scrape(strict)[counter] == before > 0


def test_off_unless_asked_for(server: Serving) -> None:
    assert "metrics are served" not in server.log


def test_secrets_are_in_no_log_line(strict: Serving) -> None:
    """At level debug each request is a line."""
    sent = {"authorization": "Bearer se-4-abcdefgh"}
    answer = ask(
        strict.url,
        headers=sent,
        secret="se-1",
        api_secret="se-2",
        token="se-3",  # pyright: ignore
        table="t",
        offset=-1,
    )
    assert answer.status == 400
    with connected(strict.url) as connection:
        connection.send(
            b"GET /v1/shape?%73ecret=se-5&Password=se-6&access_token=se-7 HTTP/1.1\r\n\r\n"
        )
        assert connection.answer().status == 400

    def lines() -> list[str]:
        return [line for line in strict.log.splitlines() if "/v1/shape?" in line]

    # A node writes them once it has answered, and another one may be quicker.
    for parts in (("secret=***", "table=t&"), ("access_token=***", "Password=***")):
        strict.until(
            lambda parts=parts: any(all(part in line for part in parts) for line in lines()),
            "writes no line for a request",
        )
    assert "se-" not in "".join(lines())
