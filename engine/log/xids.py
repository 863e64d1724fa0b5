"""The log's index of transactions: from their ids to where they committed."""

from __future__ import annotations

import lmdb

from engine.log.layout import LSN, XID
from engine.replication.visibility import Visibility


def commit_lsn_of(txn: lmdb.Transaction, xid: int) -> int | None:
    """Where the transaction with this (32-bit) id committed. `txn` is on the `xids` database."""
    data = txn.get(XID.pack(xid))
    return None if data is None else LSN.unpack(data)[0]


def commits_from(txn: lmdb.Transaction, xid: int) -> list[int]:
    """Where transactions committed that have this (32-bit) id or a later one."""
    found: list[int] = []
    cursor = txn.cursor()
    # Ids wrap around: what is half the circle ahead is really behind.
    for start, end in ((xid, 2**32), (0, xid)):
        here = cursor.set_range(XID.pack(start))
        while here:
            (other,) = XID.unpack(cursor.key())
            if other >= end or (other - xid) & 0xFFFFFFFF >= 2**31:
                break
            found.append(LSN.unpack(cursor.value())[0])
            here = cursor.next()
    return found


def unseen_commits(txn: lmdb.Transaction, visibility: Visibility) -> list[int]:
    """Where transactions committed that a snapshot does not see, in order."""
    found = commits_from(txn, visibility.xmax & 0xFFFFFFFF)
    for xid in visibility.xip:
        commit_lsn = commit_lsn_of(txn, xid & 0xFFFFFFFF)
        if commit_lsn is not None:
            found.append(commit_lsn)
    return sorted(found)
