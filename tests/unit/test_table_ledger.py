"""What nodes tell each other of tables."""

from __future__ import annotations

from pathlib import Path

from shapes.catalog.table_ledger import Entry, TableLedger, stamp_of

NAME = ("public", "t")


def test_entries_are_kept(tmp_path: Path) -> None:
    entry = Entry(5, 7, '{"oid": 1}', {"": 3, "ä": 4}).pack()
    ledger = TableLedger(tmp_path / "tables")
    assert ledger.get(NAME) is None
    assert ledger.stamp(NAME) is None
    assert ledger.swap(NAME, None, entry)
    assert ledger.get(NAME) == entry
    ledger.close()
    ledger = TableLedger(tmp_path / "tables")
    found = ledger.get(NAME)
    assert found is not None
    assert Entry.unpack(found) == Entry(5, 7, '{"oid": 1}', {"": 3, "ä": 4})
    assert ledger.stamp(NAME) == stamp_of(entry)
    assert ledger.get(("public", "u")) is None
    assert ledger.get(("public.t", "")) is None
    ledger.close()


def test_nobody_writes_over_what_it_has_not_seen(tmp_path: Path) -> None:
    ledger = TableLedger(tmp_path / "tables")
    first, second, third = (Entry(1, age, None, {}).pack() for age in range(3))
    assert ledger.swap(NAME, None, first)
    assert not ledger.swap(NAME, None, second)
    assert not ledger.swap(NAME, third, second)
    assert ledger.get(NAME) == first
    assert ledger.swap(NAME, first, second)
    assert ledger.get(NAME) == second
    assert ledger.stamp(NAME) == stamp_of(second)
    ledger.close()
