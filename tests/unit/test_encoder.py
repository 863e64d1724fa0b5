"""Changes as messages: what each operation carries in either replica mode, and the keys of rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import orjson
import pytest
from log_builder import COLUMNS, INT8, TEXT, Columns, relation, shape, table

from engine.log.layout import UNCHANGED, RelationColumn, Row
from shapes.following.encoder import DELETE, INSERT, REKEY, UPDATE, Encoder, Entry

LABEL = '"public"."t"'
OLD: Row = ["1", "a", "b"]
KEYED = ("id",)


def encoder(
    *,
    full: bool = False,
    key: Sequence[str] = KEYED,
    columns: Sequence[str] | None = None,
    of: Columns = COLUMNS,
    version: Columns | None = None,
) -> Encoder:
    """For table columns `of`, of which a shape delivers `columns`, as a relation has `version`."""
    followed = shape(table(key=key, columns=of), columns=columns)
    return Encoder(followed.projection, relation(columns=version or of), full_replica=full)


def messages(
    with_: Encoder, kind: int, new: Row | None, old: Row | None, *, last: bool = False
) -> list[dict[str, Any]]:
    entry = Entry(31400120, 6, kind, 1, 2**32 - 1, new, old)
    return [orjson.loads(message) for message in with_.encode(entry, last=last)]


def message(
    with_: Encoder, kind: int, new: Row | None, old: Row | None, *, last: bool = False
) -> dict[str, Any]:
    (only,) = messages(with_, kind, new, old, last=last)
    return only


def headers(operation: str, position: int = 6, **more: Any) -> dict[str, Any]:
    return {
        "operation": operation,
        "relation": ["public", "t"],
        "txids": [2**32 - 1],
        "lsn": "31400120",
        "op_position": position,
        **more,
    }


# -- what each operation carries -------------------------------------------------------------------


@pytest.mark.parametrize("full", [False, True])
def test_insert(full: bool) -> None:
    assert message(encoder(full=full), INSERT, ["1", None, ""], None) == {
        "key": f'{LABEL}/"1"',
        "value": {"id": "1", "v": None, "w": ""},
        "headers": headers("insert"),
    }


def test_a_row_that_moves_in_is_a_plain_insert() -> None:
    moved = message(encoder(full=True), INSERT, ["1", "new", "b"], OLD)
    assert moved == message(encoder(full=True), INSERT, ["1", "new", "b"], None)


def test_update() -> None:
    assert message(encoder(), UPDATE, ["1", "new", "b"], OLD) == {
        "key": f'{LABEL}/"1"',
        "value": {"id": "1", "v": "new"},
        "headers": headers("update"),
    }


def test_update_with_full_replica() -> None:
    assert message(encoder(full=True), UPDATE, ["1", "new", "b"], OLD) == {
        "key": f'{LABEL}/"1"',
        "value": {"id": "1", "v": "new", "w": "b"},
        "old_value": {"v": "a"},
        "headers": headers("update"),
    }


def test_updates_to_and_from_null() -> None:
    with_ = encoder(full=True)
    found = message(with_, UPDATE, ["1", None, "b"], ["1", "a", None])
    assert found["value"] == {"id": "1", "v": None, "w": "b"}
    assert found["old_value"] == {"v": "a", "w": None}
    found = message(encoder(), UPDATE, ["1", None, ""], ["1", "", None])
    assert found["value"] == {"id": "1", "v": None, "w": ""}


def test_delete() -> None:
    assert message(encoder(), DELETE, None, OLD) == {
        "key": f'{LABEL}/"1"',
        "value": {"id": "1"},
        "headers": headers("delete"),
    }


def test_delete_with_full_replica() -> None:
    found = message(encoder(full=True), DELETE, None, OLD)
    assert found["value"] == {"id": "1", "v": "a", "w": "b"}


def test_delete_without_a_primary_key() -> None:
    found = message(encoder(key=()), DELETE, None, OLD)
    assert found["key"] == f'{LABEL}/"1"/"a"/"b"'
    assert found["value"] == {"id": "1", "v": "a", "w": "b"}


def test_a_row_that_moves_out_is_a_plain_delete_of_the_old_row() -> None:
    for full in (False, True):
        moved = message(encoder(full=full), DELETE, ["2", "x", "y"], OLD)
        assert moved == message(encoder(full=full), DELETE, None, OLD)


@pytest.mark.parametrize("full", [False, True])
def test_rekey(full: bool) -> None:
    gone, come = messages(encoder(full=full), REKEY, ["2", "new", "b"], OLD)
    assert gone == {
        "key": f'{LABEL}/"1"',
        "value": {"id": "1", "v": "a", "w": "b"} if full else {"id": "1"},
        "headers": headers("delete", key_change_to=f'{LABEL}/"2"'),
    }
    assert come == {
        "key": f'{LABEL}/"2"',
        "value": {"id": "2", "v": "new", "w": "b"},
        "headers": headers("insert", 7, key_change_from=f'{LABEL}/"1"'),
    }


@pytest.mark.parametrize(
    ("kind", "new", "old"),
    [(INSERT, OLD, None), (UPDATE, ["1", "x", "b"], OLD), (DELETE, None, OLD)],
)
def test_last(kind: int, new: Row | None, old: Row | None) -> None:
    assert message(encoder(), kind, new, old, last=True)["headers"]["last"] is True
    assert "last" not in message(encoder(), kind, new, old)["headers"]


def test_only_the_second_half_of_a_rekey_is_the_last() -> None:
    gone, come = messages(encoder(), REKEY, ["2", "a", "b"], OLD, last=True)
    assert "last" not in gone["headers"]
    assert come["headers"]["last"] is True


# -- chosen columns --------------------------------------------------------------------------------


def test_only_chosen_columns_are_shown() -> None:
    for full in (False, True):
        with_ = encoder(full=full, columns=("id", "w"))
        assert message(with_, INSERT, OLD, None)["value"] == {"id": "1", "w": "b"}
        found = message(with_, UPDATE, ["1", "x", "y"], OLD)
        assert found["value"] == {"id": "1", "w": "y"}
        assert found.get("old_value") == ({"w": "b"} if full else None)
        value = message(with_, DELETE, None, OLD)["value"]
        assert value == ({"id": "1", "w": "b"} if full else {"id": "1"})


def test_columns_are_found_by_name_whatever_their_order() -> None:
    """A partition may have its columns in another order than its root."""
    with_ = encoder(version=(("w", TEXT), ("id", INT8), ("v", TEXT)))
    found = message(with_, UPDATE, ["b", "1", "new"], ["b", "1", "a"])
    assert found["key"] == f'{LABEL}/"1"'
    assert found["value"] == {"id": "1", "v": "new"}


def test_columns_that_the_relation_has_in_addition_are_not_shown() -> None:
    with_ = encoder(columns=("id", "v"), version=(*COLUMNS, ("added", TEXT)))
    assert message(with_, INSERT, ["1", "a", "b", "c"], None)["value"] == {"id": "1", "v": "a"}


# -- which updates count ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("new", "kind"),
    [
        (["1", "a", "b"], 0),
        (["1", "x", "b"], UPDATE),
        (["1", "a", None], UPDATE),
        (["2", "a", "b"], REKEY),
        (["2", "x", "y"], REKEY),
    ],
)
def test_kinds_of_update(new: Row, kind: int) -> None:
    assert encoder().kind_of_update(OLD, new) == kind


def test_an_update_of_hidden_columns_does_not_count() -> None:
    with_ = encoder(columns=("id", "w"))
    assert with_.kind_of_update(OLD, ["1", "x", "b"]) == 0
    assert with_.kind_of_update(OLD, ["1", "x", "y"]) == UPDATE
    assert with_.kind_of_update(OLD, ["2", "x", "b"]) == REKEY


def test_without_a_primary_key_every_update_changes_the_key() -> None:
    with_ = encoder(key=())
    assert with_.kind_of_update(OLD, OLD) == 0
    assert with_.kind_of_update(OLD, ["1", "x", "b"]) == REKEY


def test_a_relation_of_the_same_width_with_other_columns() -> None:
    """As many columns as the shape has, but not the same ones: only the shape's count."""
    with_ = encoder(
        of=(("id", INT8), ("v", TEXT)),
        columns=("id", "v"),
        version=(("id", INT8), ("v", TEXT), ("added", TEXT)),
    )
    assert with_.kind_of_update(["1", "a", "b"], ["1", "a", "x"]) == 0


# -- old rows that are not complete ----------------------------------------------------------------


def test_an_update_without_its_old_row_shows_all_that_is_there() -> None:
    for full in (False, True):
        found = message(encoder(full=full), UPDATE, ["1", UNCHANGED, "x"], None)
        assert found["value"] == {"id": "1", "w": "x"}
        assert "old_value" not in found


def test_an_insert_leaves_out_what_was_not_sent() -> None:
    assert message(encoder(), INSERT, ["1", UNCHANGED, "x"], None)["value"] == {"id": "1", "w": "x"}


def test_a_rekey_with_only_the_old_key() -> None:
    gone, come = messages(encoder(), REKEY, ["2", UNCHANGED, "x"], ["1", None, None])
    assert gone["value"] == {"id": "1"}
    assert gone["headers"]["key_change_to"] == come["key"] == f'{LABEL}/"2"'
    assert come["value"] == {"id": "2", "w": "x"}


def test_a_delete_without_its_old_row_is_one_of_the_new_rows_key() -> None:
    found = message(encoder(), DELETE, ["1", UNCHANGED, "x"], None)
    assert found["key"] == f'{LABEL}/"1"'
    assert found["value"] == {"id": "1"}


@pytest.mark.parametrize("kind", [DELETE, REKEY])
def test_what_of_an_old_row_is_not_known_is_not_shown(kind: int) -> None:
    """Null would be a lie, and more than clients bear in a column that is NOT NULL."""
    keys = tuple(
        RelationColumn(one.name, one.type_oid, -1, one.name == "id") for one in relation().columns
    )
    version = replace(relation(identity="d"), columns=keys)
    with_ = Encoder(shape(full=True).projection, version, full_replica=True)
    new: Row | None = ["2", "x", "y"] if kind == REKEY else None
    assert messages(with_, kind, new, ["1", None, None])[0]["value"] == {"id": "1"}


def test_no_message_ever_shows_the_mark_for_a_value_that_was_not_sent() -> None:
    new: Row = ["1", UNCHANGED, UNCHANGED]
    key: Row = ["0", None, None]
    for full in (False, True):
        with_ = encoder(full=full)
        for kind, old in [
            (INSERT, None),
            (UPDATE, None),
            (DELETE, None),
            (REKEY, key),
        ]:
            for found in messages(with_, kind, new, old):
                assert UNCHANGED not in found["value"].values()
                assert UNCHANGED not in found.get("old_value", {}).values()


# -- keys ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("row", "key"),
    [
        (["41"], '"41"'),
        ([""], '""'),
        (["a/b//"], '"a//b////"'),
        (['say "hi"'], '"say "hi""'),
        (["."], '"."'),
        (["größe\n"], '"größe\n"'),
        (["_"], '"_"'),
    ],
)
def test_values_in_keys(row: Row, key: str) -> None:
    with_ = encoder(of=(("id", TEXT),))
    assert with_.key(row) == f"{LABEL}/{key}"


def test_the_order_in_a_key_is_that_of_the_primary_key() -> None:
    assert encoder(key=("w", "id")).key(OLD) == f'{LABEL}/"b"/"1"'


def test_keys_without_a_primary_key() -> None:
    assert encoder(key=()).key(["1", None, "_"]) == f'{LABEL}/"1"/_/"_"'


def test_a_key_does_not_depend_on_the_columns_that_are_shown() -> None:
    turned: Row = ["b", "a", "1"]
    keys = {
        encoder(key=("v", "id"), columns=columns, version=version).key(row)
        for columns in (None, ("id", "v"))
        for version, row in [(COLUMNS, OLD), (COLUMNS[::-1], turned)]
    }
    assert keys == {f'{LABEL}/"a"/"1"'}


def test_names_in_keys_and_relations() -> None:
    followed = shape(table(name="my.big/table"))
    with_ = Encoder(followed.projection, relation(name="my.big/table"), full_replica=False)
    found = message(with_, INSERT, OLD, None)
    assert found["key"] == '"public"."my..big//table"/"1"'
    assert found["headers"]["relation"] == ["public", "my.big/table"]


def test_changes_of_a_partition_are_the_roots() -> None:
    followed = shape(table())
    with_ = Encoder(followed.projection, relation(oid=7, name="part"), full_replica=False)
    found = message(with_, INSERT, OLD, None)
    assert found["key"] == f'{LABEL}/"1"'
    assert found["headers"]["relation"] == ["public", "t"]
