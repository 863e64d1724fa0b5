"""What the bytes of the log mean."""

from __future__ import annotations

import orjson
import pytest
from log_builder import relation

from engine.errors import LogError
from engine.log.layout import (
    HEADER,
    KEY,
    UNCHANGED,
    Block,
    Change,
    LogState,
    RelationColumn,
    RelationVersion,
    pack_body,
    pack_header,
    unpack_block,
)
from engine.lsn import MAX_LSN, Offset

CHANGES: list[Change] = [(1, "I", ["a", None], None), (7, "u", ["b", UNCHANGED], ["c", None])]


def packed(relations: tuple[int, ...] = (1, 7)) -> tuple[bytes, bytes]:
    body = pack_body(relations, orjson.dumps(CHANGES))
    header = pack_header(2**32 - 1, MAX_LSN, -1, 2, len(relations))
    return KEY.pack(MAX_LSN - 1, 6), header + body


def test_keys_sort_as_offsets_do() -> None:
    offsets = [Offset(lsn, index) for lsn in (0, 1, 255, 256, 2**32, MAX_LSN) for index in (0, 2)]
    offsets += [Offset(1, 255), Offset(1, 256), Offset(1, 2**32 - 1)]
    assert sorted(offsets) == [KEY.unpack(key) for key in sorted(KEY.pack(*one) for one in offsets)]


@pytest.mark.parametrize("relations", [(), (1,), (1, 7), tuple(range(300))])
def test_a_block_comes_back_as_it_was(relations: tuple[int, ...]) -> None:
    block = unpack_block(*packed(relations))
    payload = orjson.dumps(CHANGES)
    assert block == Block(MAX_LSN - 1, 6, 2**32 - 1, MAX_LSN, -1, 2, relations, payload)
    assert [tuple(change) for change in block.changes()] == CHANGES


def test_the_last_change_of_a_block() -> None:
    assert unpack_block(*packed()).last == Offset(MAX_LSN - 1, 8)


@pytest.mark.parametrize("size", [0, 1, HEADER.size - 1, HEADER.size, HEADER.size + 7])
def test_half_a_block_is_refused(size: int) -> None:
    key, value = packed()
    with pytest.raises(LogError, match="damaged"):
        unpack_block(key, value[:size])


def test_a_key_of_another_length_is_refused() -> None:
    key, value = packed()
    with pytest.raises(LogError, match="damaged"):
        unpack_block(key[:-1], value)


def test_the_state_comes_back_as_it_was() -> None:
    state = LogState(2**62, 1, MAX_LSN, MAX_LSN, Offset(MAX_LSN, 1))
    assert LogState.unpack(state.pack()) == state


def test_a_relation_version_comes_back_as_it_was() -> None:
    version = relation(3, columns=(("Ü/\"'", 25), ("b", 2**32 - 1)), ancestors=((8, "s", "é"),))
    again = RelationVersion.unpack(version.pack())
    assert again == version
    assert again.positions == {"Ü/\"'": 0, "b": 1}
    assert again.columns[1] == RelationColumn("b", 2**32 - 1, -1, True)
