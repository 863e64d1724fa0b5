"""How runs look on the wire: names, types, and forms that clients accept whatever a table holds."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import orjson
import pytest

from engine.log.layout import RelationColumn, RelationVersion
from engine.postgres.table import Column, Table
from engine.runs.table import RunTable, RunTableError
from shapes.following.encoder import DELETE, INSERT, REKEY, UPDATE, Entry, make_encoder
from shapes.runs.ending import is_over
from shapes.runs.presentation import Presentation
from shapes.runs.values import error, later_time, metadata, packet_type, time
from shapes.runs.view import RunView
from shapes.shape import Projection, make_shape
from shapes.snapshots.snapshot_rows import presented

OIDS = {"text": 25, "jsonb": 3802, "timestamptz": 1184, "int4": 23, "bool": 16, "float8": 701}
OWN: Sequence[tuple[str, str, bool]] = (
    ("id", "text", True),
    ("environment_id", "text", True),
    ("task", "text", True),
    ("status", "text", True),
    ("tags", "text[]", True),
    ("metadata", "jsonb", True),
    ("payload", "text", False),
    ("payload_type", "text", True),
    ("output", "text", False),
    ("output_type", "text", True),
    ("error", "jsonb", False),
    ("number", "int4", True),
    ("is_test", "bool", True),
    ("usage_duration_ms", "int4", True),
    ("cost_in_cents", "float8", True),
    ("base_cost_in_cents", "float8", True),
    ("ttl", "text", False),
    ("realtime_streams", "text[]", True),
    ("created_at", "timestamptz", True),
    ("updated_at", "timestamptz", True),
    ("delay_until", "timestamptz", False),
    ("queued_at", "timestamptz", False),
    ("started_at", "timestamptz", False),
    ("completed_at", "timestamptz", False),
    ("expired_at", "timestamptz", False),
)
RUN: Mapping[str, str | None] = {
    "id": "run_1",
    "environment_id": "default",
    "task": "resize",
    "status": "QUEUED",
    "tags": "{user:1}",
    "metadata": '{"progress": 1}',
    "payload": '{"a":1}',
    "payload_type": "application/json",
    "output": None,
    "output_type": "application/json",
    "error": None,
    "number": "7",
    "is_test": "f",
    "usage_duration_ms": "0",
    "cost_in_cents": "0.5",
    "base_cost_in_cents": "0",
    "ttl": None,
    "realtime_streams": "{}",
    "created_at": "2026-01-01 10:00:00.123456+00",
    "updated_at": "2026-01-01 10:00:01+00",
    "delay_until": None,
    "queued_at": "2026-01-01 10:00:00.123456+00",
    "started_at": None,
    "completed_at": None,
    "expired_at": None,
}


def table(columns: Sequence[tuple[str, str, bool]] = OWN) -> Table:
    return Table(
        1000,
        "public",
        "jobs",
        tuple(
            Column(
                name,
                kind.removesuffix("[]"),
                1009 if kind.endswith("[]") else OIDS.get(kind, 25),
                dims=int(kind.endswith("[]")),
                not_null=not_null,
                key_index=0 if place == 0 else None,
            )
            for place, (name, kind, not_null) in enumerate(columns)
        ),
    )


OWN_RUNS = RunTable(columns={name: name for name, _, _ in OWN})


def presentation(
    skipped: Sequence[str] = (), *, runs: RunTable = OWN_RUNS, of: Table | None = None, **how: bool
) -> Presentation:
    return RunView.of(runs, skipped, **how).presentation(of or table())


def row(shown: Presentation, **values: str | None) -> list[str | int | None]:
    return [({**RUN, **values})[name] for name in shown.columns]


def shown(**values: str | None) -> dict[str, Any]:
    one = presentation()
    return one.values(row(one, **values))


# -- one run ---------------------------------------------------------------------------------------


def test_a_run() -> None:
    assert shown() == {
        "id": "run_1",
        "friendlyId": "run_1",
        "taskIdentifier": "resize",
        "status": "PENDING",
        "createdAt": "2026-01-01T10:00:00.123456",
        "updatedAt": "2026-01-01T10:00:01",
        "startedAt": None,
        "delayUntil": None,
        "queuedAt": "2026-01-01T10:00:00.123456",
        "expiredAt": None,
        "completedAt": None,
        "number": "7",
        "isTest": "f",
        "usageDurationMs": "0",
        "costInCents": "0.5",
        "baseCostInCents": "0",
        "ttl": None,
        "payload": '{"a":1}',
        "payloadType": "application/json",
        "metadata": '{"progress": 1}',
        "metadataType": "application/json",
        "output": None,
        "outputType": "application/json",
        "runTags": "{user:1}",
        "error": None,
        "realtimeStreams": "{}",
    }


def test_the_schema_has_no_type_that_clients_read_otherwise() -> None:
    schema = presentation().schema
    assert set(schema) == set(shown())
    assert {name: one["type"] for name, one in schema.items() if one["type"] != "text"} == {
        **dict.fromkeys(("createdAt", "updatedAt", "startedAt", "delayUntil"), "timestamp"),
        **dict.fromkeys(("queuedAt", "expiredAt", "completedAt"), "timestamp"),
        **dict.fromkeys(("number", "usageDurationMs"), "int4"),
        **dict.fromkeys(("costInCents", "baseCostInCents"), "float8"),
        "isTest": "bool",
        "error": "jsonb",
    }
    assert {name for name, one in schema.items() if one.get("dims")} == {
        "runTags",
        "realtimeStreams",
    }


@pytest.mark.parametrize(
    ("stored", "wire"),
    [
        ("DELAYED", "DELAYED"),
        ("QUEUED", "PENDING"),
        ("PENDING_VERSION", "PENDING_VERSION"),
        ("DEQUEUED", "DEQUEUED"),
        ("EXECUTING", "EXECUTING"),
        ("WAITING", "WAITING_TO_RESUME"),
        ("COMPLETED", "COMPLETED_SUCCESSFULLY"),
        ("FAILED", "COMPLETED_WITH_ERRORS"),
        ("CANCELED", "CANCELED"),
        ("CRASHED", "CRASHED"),
        ("SYSTEM_FAILURE", "SYSTEM_FAILURE"),
        ("EXPIRED", "EXPIRED"),
        ("TIMED_OUT", "TIMED_OUT"),
        ("running", "EXECUTING"),
        ("COMPLETED_SUCCESSFULLY", "COMPLETED_SUCCESSFULLY"),
    ],
)
def test_statuses(stored: str, wire: str) -> None:
    assert shown(status=stored)["status"] == wire


def test_clients_without_a_version_know_no_dequeued_runs() -> None:
    dated = presentation(dated=True)
    assert dated.values(row(dated, status="DEQUEUED"))["status"] == "EXECUTING"
    assert dated.identity != presentation().identity


# -- values ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "wire"),
    [
        ("2026-01-01 10:00:00+00", "2026-01-01T10:00:00"),
        ("2026-01-01 10:00:00.5", "2026-01-01T10:00:00.5"),
        ("2026-01-01", "2026-01-01T00:00:00"),
        ("infinity", "9999-12-31T23:59:59"),
        ("-infinity", "0001-01-01T00:00:00"),
        ("0044-03-15 12:00:00+00 BC", "0001-01-01T00:00:00"),
    ],
)
def test_times_have_no_zone(text: str, wire: str) -> None:
    assert time(text) == wire


def test_a_time_that_never_comes_is_not_there() -> None:
    assert later_time("infinity") is None
    assert later_time(None) is None


@pytest.mark.parametrize(
    ("text", "wire"),
    [('{"a":1}', '{"a":1}'), ("[1]", None), ("null", None), ("{", None), ("", None), (None, None)],
)
def test_metadata_is_an_object_or_nothing(text: str | None, wire: str | None) -> None:
    assert metadata(text) == wire


@pytest.mark.parametrize(
    ("kind", "data", "wire"),
    [
        ("application/json", '{"a":1}', "application/json"),
        ("application/json", "hello", "text/plain"),
        ("application/super+json", "{", "text/plain"),
        ("application/json", None, "application/json"),
        ("application/json", "null", "application/json"),
        ("text/plain", "hello", "text/plain"),
        ("application/store", "packets/1", "application/store"),
        (None, "1", "application/json"),
        (None, "one", "text/plain"),
    ],
)
def test_what_is_no_json_is_not_called_so(kind: str | None, data: str | None, wire: str) -> None:
    assert packet_type(kind, data) == wire


TAGGED = (
    {"type": "STRING_ERROR", "raw": "no such image"},
    {"type": "CUSTOM_ERROR", "raw": "{}"},
    {"type": "BUILT_IN_ERROR", "name": "E", "message": "m", "stackTrace": "s"},
    {
        "type": "BUILT_IN_ERROR",
        "name": "E",
        "message": "m",
        "stackTrace": "s",
        "causes": [{"message": "c"}],
    },
    {"type": "INTERNAL_ERROR", "code": "TASK_RUN_CRASHED"},
)


@pytest.mark.parametrize("value", TAGGED, ids=lambda value: value["type"])
def test_errors_in_a_form_that_clients_know_stay_as_they_are(value: dict[str, Any]) -> None:
    text = json.dumps(value)
    assert error(text) == text


@pytest.mark.parametrize(
    "value",
    [
        {"message": "boom"},
        {"type": "BUILT_IN_ERROR", "name": "E", "message": "m"},
        {"type": "BUILT_IN_ERROR", "name": "E", "message": "m", "stackTrace": "", "causes": [1]},
        {"type": "INTERNAL_ERROR", "code": "MY_CODE"},
        {"type": "INTERNAL_ERROR", "code": "TASK_RUN_CRASHED", "message": 1},
        {"type": ["STRING_ERROR"], "raw": "x"},
        [1, 2],
        12,
        False,
    ],
    ids=str,
)
def test_all_other_errors_become_texts(value: object) -> None:
    text = json.dumps(value)
    presented_error = error(text)
    assert presented_error is not None
    assert orjson.loads(presented_error) == {"type": "STRING_ERROR", "raw": text}


def test_errors_that_are_texts() -> None:
    for text in ('"out of paper"', "out of paper"):
        presented_error = error(text)
        assert presented_error is not None
        assert orjson.loads(presented_error) == {"type": "STRING_ERROR", "raw": "out of paper"}
    assert error(None) is None
    assert error("null") is None


# -- changes ---------------------------------------------------------------------------------------


def test_a_change_has_what_is_new_and_the_id() -> None:
    one = presentation()
    before = row(one)
    after = row(one, metadata='{"progress": 2}', updated_at="2026-01-01 10:00:02+00")
    assert one.changed(after, before) == {
        "id": "run_1",
        "friendlyId": "run_1",
        "metadata": '{"progress": 2}',
        "updatedAt": "2026-01-01T10:00:02",
    }


def test_a_field_changes_with_each_of_its_sources() -> None:
    one = presentation()
    changed = one.changed(row(one, output="done"), row(one))
    assert changed["outputType"] == "text/plain"
    changed = one.changed(row(one, status="CANCELED"), row(one))
    assert (changed["status"], changed["completedAt"]) == ("CANCELED", "2026-01-01T10:00:01")


def test_values_that_were_not_sent_are_left_out() -> None:
    one = presentation()
    values = one.values([0 if name == "payload" else RUN[name] for name in one.columns])
    assert "payload" not in values
    assert "payloadType" not in values
    assert values["status"] == "PENDING"


# -- skipped fields --------------------------------------------------------------------------------


def test_skipped_fields_are_nowhere() -> None:
    one = presentation(["payload", "metadata", "nonsense", "id", "status", "updatedAt"])
    assert not {"payload", "metadata"} & (one.schema.keys() | one.values(row(one)).keys())
    assert {"id", "friendlyId", "taskIdentifier", "status", "createdAt", "updatedAt"} <= set(
        one.schema
    )
    assert "metadata" not in one.columns


def test_the_same_fields_are_the_same_view_in_any_order() -> None:
    first = RunView.of(OWN_RUNS, ["payload", "output"])
    second = RunView.of(OWN_RUNS, ["output", "payload", "payload", "whatever"])
    assert first == second
    assert hash(first) == hash(second)
    assert first.identity == second.identity
    assert first.identity != RunView.of(OWN_RUNS, ["payload"]).identity


# -- a table of the user's -------------------------------------------------------------------------

JOBS = (
    ("job_id", "int4", True),
    ("state", "text", True),
    ("made", "timestamptz", True),
    ("result", "jsonb", False),
)
JOB_RUNS = RunTable(
    "public",
    "jobs",
    {"id": "job_id", "status": "state", "created_at": "made", "output": "result"},
    {"done": "COMPLETED", "broken": "FAILED"},
    {"task": "job"},
)


def test_fields_without_a_column() -> None:
    one = RunView.of(JOB_RUNS, ()).presentation(table(JOBS))
    values: list[str | int | None] = []
    run = {"job_id": "12", "state": "done", "made": "2026-01-01 10:00:00+00", "result": '"x"'}
    values = [run[name] for name in one.columns]
    assert one.values(values) == {
        "id": "12",
        "friendlyId": "12",
        "taskIdentifier": "job",
        "status": "COMPLETED_SUCCESSFULLY",
        "createdAt": "2026-01-01T10:00:00",
        "updatedAt": "2026-01-01T10:00:00",
        "completedAt": "2026-01-01T10:00:00",
        "output": '"x"',
        "outputType": "application/json",
    }


@pytest.mark.parametrize(
    ("columns", "wrong"),
    [
        ({"id": "job_id", "status": "state", "created_at": "nowhere"}, "nowhere"),
        ({"id": "job_id", "status": "state", "created_at": "state"}, "created_at"),
        ({"id": "made", "status": "state", "created_at": "made"}, "`id`"),
        ({"id": "job_id", "status": "state", "created_at": "made", "tags": "state"}, "`tags`"),
        ({"id": "job_id", "status": "state", "created_at": "made", "is_test": "state"}, "is_test"),
        ({"id": "job_id", "status": "state", "created_at": "made", "metadata": "made"}, "metadata"),
    ],
)
def test_columns_that_cannot_be_what_they_are_to_be(columns: dict[str, str], wrong: str) -> None:
    runs = RunTable("public", "jobs", columns, constants={"task": "job"})
    with pytest.raises(RunTableError, match=wrong):
        RunView.of(runs, ()).presentation(table(JOBS))


# -- messages --------------------------------------------------------------------------------------


def projection(skipped: Sequence[str] = ()) -> Projection:
    of = table()
    one = presentation(skipped, of=of)
    columns = tuple(column for column in of.columns if column.name in one.columns)
    return Projection(of, columns, explicit=True, presentation=one)


VERSION = RelationVersion(
    1,
    1000,
    "public",
    "jobs",
    "f",
    tuple(
        RelationColumn(column.name, column.type_oid, column.modifier, column.name == "id")
        for column in reversed(table().columns)
    ),
)


def logged(**values: str | None) -> list[str | int | None]:
    """A row as the log has it, whose columns may be in another order."""
    return [({**RUN, **values})[column.name] for column in VERSION.columns]


def messages(
    kind: int, new: list[str | int | None] | None, old: list[str | int | None] | None
) -> list[dict[str, Any]]:
    encoder = make_encoder(projection(["payload"]), VERSION, full_replica=False)
    entry = Entry(100, 2, kind, 1, 7, new, old)
    return [orjson.loads(message) for message in encoder.encode(entry, last=True)]


def test_messages_are_presented() -> None:
    (inserted,) = messages(INSERT, logged(), None)
    assert inserted["key"] == '"public"."jobs"/"run_1"'
    assert inserted["value"] == {
        name: value for name, value in shown().items() if name not in ("payload",)
    }
    (updated,) = messages(UPDATE, logged(status="EXECUTING", payload="new"), logged())
    assert updated["value"] == {
        "id": "run_1",
        "friendlyId": "run_1",
        "status": "EXECUTING",
        "payloadType": "text/plain",
    }
    assert "old_value" not in updated


def test_a_delete_says_nothing_but_the_id() -> None:
    (deleted,) = messages(DELETE, None, logged())
    assert deleted["value"] == {"id": "run_1", "friendlyId": "run_1"}
    gone, come = messages(REKEY, logged(id="run_2"), logged())
    assert gone["value"] == {"id": "run_1", "friendlyId": "run_1"}
    assert come["value"]["friendlyId"] == "run_2"


async def test_rows_of_a_snapshot_are_presented_wherever_the_stream_is_cut() -> None:
    one = projection()
    line = {"key": "k", "value": {**RUN}, "headers": {"operation": "insert"}}
    stream = b"1:2: 0/1 0/1\n" + (orjson.dumps(line) + b",\n") * 3
    for size in (1, 7, 1000, len(stream)):
        pieces: list[bytes] = []

        async def take(data: bytes, into: list[bytes] = pieces) -> None:
            into.append(data)

        feed = presented(one, take)
        for start in range(0, len(stream), size):
            await feed(stream[start : start + size])
        first, *lines = b"".join(pieces).split(b"\n")
        assert first == b"1:2: 0/1 0/1"
        assert [orjson.loads(text[:-1])["value"] for text in lines[:-1]] == [shown()] * 3
        assert lines[-1] == b""


def test_shapes_with_other_fields_are_other_shapes() -> None:
    hashes = {make_shape(projection(skipped), None).hash for skipped in ((), ("ttl",), ("error",))}
    plain = Projection(table(), projection().columns, explicit=True)
    assert len(hashes | {make_shape(plain, None).hash}) == 4


# -- the end ---------------------------------------------------------------------------------------


def encoded(kind: int, **values: str | None) -> bytes:
    encoder = make_encoder(projection(), VERSION, full_replica=False)
    return encoder.encode(Entry(100, 2, kind, 1, 7, logged(**values), logged()), last=True)[0]


def test_when_a_run_is_over() -> None:
    begun = encoded(INSERT)
    ended = encoded(UPDATE, completed_at="2026-01-01 11:00:00+00", status="COMPLETED")
    edited = encoded(UPDATE, metadata='{"completedAt": "now"}')
    assert not is_over([])
    assert not is_over([begun])
    assert not is_over([begun, edited])
    assert is_over([begun, ended])
    assert is_over([ended, edited])
    assert is_over([begun, encoded(DELETE)])


def test_a_run_may_go_on_after_its_end() -> None:
    encoder = make_encoder(projection(), VERSION, full_replica=False)
    over = logged(completed_at="2026-01-01 11:00:00+00", status="FAILED")
    (again,) = encoder.encode(Entry(101, 2, UPDATE, 1, 8, logged(), over), last=True)
    assert not is_over([encoded(UPDATE, status="FAILED"), again])
