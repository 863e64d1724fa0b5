"""Decodes pgoutput, the output of Postgres's logical replication: protocol versions 1 and 2, text
format (the manual's "Logical Replication Message Formats").

Pure, and total over bad input: any bytes give a message or a ProtocolError that says what was
expected at which byte, and shows no more than that byte.
"""

from __future__ import annotations

from collections.abc import Callable
from struct import Struct
from struct import error as StructError
from typing import Final

from engine.errors import ProtocolError
from engine.lsn import Lsn
from engine.pgoutput.envelope import (
    KEEPALIVE,
    POSTGRES_EPOCH_US,
    XLOG_DATA,
    XLOG_HEADER,
    Keepalive,
    XLogData,
    decode_keepalive,
    decode_xlog_data,
    standby_status_update,
)
from engine.pgoutput.messages import (
    UNCHANGED,
    Begin,
    Change,
    Commit,
    LogicalMessage,
    Message,
    Origin,
    Relation,
    RelationColumn,
    Row,
    StreamAbort,
    StreamCommit,
    StreamStart,
    StreamStop,
    Truncate,
    Type,
)
from engine.pgoutput.reader import MessageReader

__all__ = [
    "CHANGES",
    "KEEPALIVE",
    "UNCHANGED",
    "XLOG_DATA",
    "XLOG_HEADER",
    "Begin",
    "Change",
    "Commit",
    "Keepalive",
    "LogicalMessage",
    "Message",
    "Origin",
    "Relation",
    "RelationColumn",
    "Row",
    "StreamAbort",
    "StreamCommit",
    "StreamStart",
    "StreamStop",
    "Truncate",
    "Type",
    "XLogData",
    "decode",
    "decode_change",
    "decode_keepalive",
    "decode_streamed_change",
    "decode_xlog_data",
    "standby_status_update",
]

CHANGES: Final = b"IUD"
"""The kinds of message (first bytes) that `decode_change` takes."""

_CARRY_XID = b"IUDTRYM"
_INSERT, _UPDATE, _DELETE = CHANGES
_KEY, _NEW, _OLD = b"KNO"
_BINARY, _NULL, _TEXT, _UNCHANGED = b"bntu"
_MARKS = {_INSERT: b"N", _UPDATE: b"KNO", _DELETE: b"KO"}

_unpack_xid = Struct(">xI").unpack_from
_unpack_change = Struct(">IBH").unpack_from  # relation, mark of the first tuple, its columns
_unpack_tuple = Struct(">BH").unpack_from
_unpack_text_size = Struct(">xI").unpack_from
_BEGIN = Struct(">QqI")
_COMMIT = Struct(">BQQq")
_BEGIN_KIND, _COMMIT_KIND = b"BC"
_BEGIN_SIZE = 1 + _BEGIN.size
_COMMIT_SIZE = 1 + _COMMIT.size
_MESSAGE = Struct(">BBQ")
_MESSAGE_KIND = ord("M")
_MESSAGE_SIZE = _MESSAGE.size + 5
_STREAM_START = Struct(">I?")
_STREAM_ABORT = Struct(">II")
_STREAM_ABORT_TAIL = Struct(">Qq")
_iter_oids = Struct(">I").iter_unpack


def decode(buffer: bytes, start: int = 0, *, streamed: bool = False) -> tuple[int | None, Message]:
    """The message that fills `buffer` from `start` on, and the xid of its (sub)transaction.

    `streamed` is true between Stream Start and Stream Stop. The xid is None for what carries none:
    everything outside of streamed blocks, and there Origin and Stream Stop.
    """
    # A transaction of one change comes with two of these.
    size = len(buffer) - start
    if size == _BEGIN_SIZE and buffer[start] == _BEGIN_KIND:
        final_lsn, time, xid = _BEGIN.unpack_from(buffer, start + 1)
        return None, Begin(final_lsn, time + POSTGRES_EPOCH_US, xid)
    if size == _COMMIT_SIZE and buffer[start] == _COMMIT_KIND:
        flags, commit_lsn, end_lsn, time = _COMMIT.unpack_from(buffer, start + 1)
        return None, Commit(flags, commit_lsn, end_lsn, time + POSTGRES_EPOCH_US)
    if size >= _MESSAGE_SIZE and buffer[start] == _MESSAGE_KIND and not streamed:
        # As many as there are appends to streams. What is not as it should be is refused below.
        end = buffer.find(b"\0", start + _MESSAGE.size) + 1
        content = end + 4
        if end and int.from_bytes(buffer[end:content], "big") == len(buffer) - content:
            _, flags, lsn = _MESSAGE.unpack_from(buffer, start)
            prefix = buffer[start + _MESSAGE.size : end - 1]
            if prefix.isascii():
                message = LogicalMessage(
                    flags & 1 != 0, Lsn(lsn), prefix.decode(), buffer[content:]
                )
                return None, message
    reader = MessageReader(buffer, start)
    kind = reader.u8("a message kind")
    if kind in CHANGES:
        change = decode_change(buffer, start, streamed=streamed)
        return (_unpack_xid(buffer, start)[0] if streamed else None), change
    read = _READERS.get(kind)
    if read is None:
        raise reader.refusal(
            "a message kind of protocol version 1 or 2",
            back=1,
            next_step="start replication with proto_version '2' or less and without two_phase",
        )
    xid = reader.u32("the transaction's xid") if streamed and kind in _CARRY_XID else None
    message = read(reader)
    reader.end()
    return xid, message


def decode_streamed_change(buffer: bytes, start: int = 0) -> tuple[int, Change]:
    """The xid of the (sub)transaction and the change, of a change inside a streamed block."""
    change = decode_change(buffer, start, streamed=True)
    return _unpack_xid(buffer, start)[0], change


def decode_change(buffer: bytes, start: int = 0, *, streamed: bool = False) -> Change:
    """The Insert, Update or Delete that fills `buffer` from `start` on.

    Where an update carries the full old row, its unchanged TOASTed values are filled in from there.

    The hot path: bounds are checked by one comparison at the end, which is enough because positions
    only grow and slices never fail. What is refused is read again, slowly, to say where.
    """
    try:
        kind = buffer[start]
        position = start + 5 if streamed else start + 1
        relation_oid, mark, count = _unpack_change(buffer, position)
        row, position = _row(buffer, position + 7, count, None)
        if kind == _INSERT and mark == _NEW:
            change = ("I", relation_oid, row, None, False)
        elif kind == _UPDATE and mark == _NEW:
            change = ("U", relation_oid, row, None, False)
        elif mark != _OLD and mark != _KEY:
            raise ValueError(mark)
        elif kind == _UPDATE:
            new_mark, count = _unpack_tuple(buffer, position)
            new, position = _row(buffer, position + 3, count, row if mark == _OLD else None)
            if new_mark != _NEW:
                raise ValueError(new_mark)
            change = ("U", relation_oid, new, row, mark == _KEY)
        elif kind == _DELETE:
            change = ("D", relation_oid, None, row, mark == _KEY)
        else:
            raise ValueError(kind)
        if position == len(buffer):
            return change
    except (IndexError, StructError, ValueError):
        pass
    raise _change_refusal(buffer, start, streamed)


def _row(buffer: bytes, position: int, count: int, full_old: Row | None) -> tuple[Row, int]:
    """`count` columns from `position` on, and the position after them.

    Unchanged TOASTed values are taken from `full_old`. Raises IndexError, StructError, ValueError.
    """
    row: Row = []
    for _ in range(count):
        kind = buffer[position]
        if kind == _TEXT:
            begin = position + 5
            (size,) = _unpack_text_size(buffer, position)
            position = begin + size
            row.append(buffer[begin:position].decode())
        elif kind == _NULL:
            row.append(None)
            position += 1
        elif kind == _UNCHANGED:
            row.append(UNCHANGED if full_old is None else full_old[len(row)])
            position += 1
        else:
            raise ValueError(kind)
    return row, position


def _change_refusal(buffer: bytes, start: int, streamed: bool) -> ProtocolError:
    """The exact error of a change that `decode_change` could not read."""
    reader = MessageReader(buffer, start)
    try:
        _check_change(reader, streamed)
        reader.end()
    except ProtocolError as error:
        return error
    return reader.refusal("a well-formed change")


def _check_change(reader: MessageReader, streamed: bool) -> None:
    kind = reader.one_of(CHANGES, "a kind of change")
    if streamed:
        reader.u32("the transaction's xid")
    reader.u32("the relation's OID")
    mark = reader.one_of(_MARKS[kind], "a tuple's mark")
    columns = _check_row(reader, None)
    if kind == _UPDATE and mark != _NEW:
        reader.one_of(_MARKS[_INSERT], "the new tuple's mark")
        _check_row(reader, columns if mark == _OLD else None)


def _check_row(reader: MessageReader, old_columns: int | None) -> int:
    """Answers the number of columns; `old_columns` is that of the full old row, if one was sent."""
    count = reader.u16("the number of columns")
    for column in range(count):
        kind = reader.u8("a column's kind")
        if kind == _TEXT:
            reader.text(reader.u32("the value's length"), "a value")
        elif kind == _UNCHANGED:
            if old_columns is not None and column >= old_columns:
                raise reader.refusal("a column that the old row has too", back=1)
        elif kind != _NULL:
            raise reader.refusal(
                "a column's kind (n, t, u)",
                back=1,
                next_step="start replication without binary 'true'" if kind == _BINARY else None,
            )
    return count


def _begin(reader: MessageReader) -> Begin:
    final_lsn, time, xid = reader.fields(_BEGIN, "final LSN, commit time and xid")
    return Begin(final_lsn, time + POSTGRES_EPOCH_US, xid)


def _commit(reader: MessageReader) -> Commit:
    flags, commit_lsn, end_lsn, time = reader.fields(
        _COMMIT, "flags, commit LSN, end LSN and commit time"
    )
    return Commit(flags, commit_lsn, end_lsn, time + POSTGRES_EPOCH_US)


def _origin(reader: MessageReader) -> Origin:
    return Origin(
        commit_lsn=reader.lsn("the LSN on the origin"), name=reader.string("the origin's name")
    )


def _relation(reader: MessageReader) -> Relation:
    return Relation(
        oid=reader.u32("the relation's OID"),
        schema=reader.schema(),
        name=reader.string("the relation's name"),
        replica_identity=chr(reader.one_of(b"dnfi", "a replica identity")),
        columns=tuple(
            RelationColumn(
                is_key=reader.u8("the column's flags") & 1 != 0,
                name=reader.string("the column's name"),
                type_oid=reader.u32("the column's type"),
                modifier=reader.i32("the column's type modifier"),
            )
            for _ in range(reader.u16("the number of columns"))
        ),
    )


def _type(reader: MessageReader) -> Type:
    return Type(
        oid=reader.u32("the type's OID"),
        schema=reader.schema(),
        name=reader.string("the type's name"),
    )


def _truncate(reader: MessageReader) -> Truncate:
    count = reader.u32("the number of relations")
    options = reader.u8("the options")
    oids = reader.take(4 * count, "the relations' OIDs")
    return Truncate(
        relation_oids=tuple(oid for (oid,) in _iter_oids(oids)),
        cascade=options & 1 != 0,
        restart_identity=options & 2 != 0,
    )


def _logical_message(reader: MessageReader) -> LogicalMessage:
    return LogicalMessage(
        transactional=reader.u8("flags") & 1 != 0,
        lsn=reader.lsn("the message's LSN"),
        prefix=reader.string("the message's prefix"),
        content=reader.take(reader.u32("the content's length"), "the content"),
    )


def _stream_start(reader: MessageReader) -> StreamStart:
    xid, first_segment = reader.fields(_STREAM_START, "xid and whether it is the first block")
    return StreamStart(xid, first_segment)


def _stream_stop(_reader: MessageReader) -> StreamStop:
    return StreamStop()


def _stream_commit(reader: MessageReader) -> StreamCommit:
    return StreamCommit(reader.u32("the transaction's xid"), *_commit(reader))


def _stream_abort(reader: MessageReader) -> StreamAbort:
    xid, subxid = reader.fields(_STREAM_ABORT, "xid and subtransaction's xid")
    if reader.rest:  # Protocol version 4 with streaming 'parallel'.
        reader.fields(_STREAM_ABORT_TAIL, "abort LSN and abort time")
    return StreamAbort(xid, subxid)


_READERS: Final[dict[int, Callable[[MessageReader], Message]]] = {
    ord("B"): _begin,
    ord("C"): _commit,
    ord("O"): _origin,
    ord("R"): _relation,
    ord("Y"): _type,
    ord("T"): _truncate,
    ord("M"): _logical_message,
    ord("S"): _stream_start,
    ord("E"): _stream_stop,
    ord("c"): _stream_commit,
    ord("A"): _stream_abort,
}
