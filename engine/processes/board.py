"""What the engine and the nodes of one supervisor tell each other besides the log.

One small shared file without a name: the supervisor opens it, its children inherit it. The engine
writes in which stage it is, the nodes when they last had a request. Nothing in it is needed for
correctness: it decides what health says, and when an idle engine lets go of Postgres.

All times are of `time.monotonic()`, which is one clock for all processes of a machine.
"""

from __future__ import annotations

import mmap
import os
import tempfile
import time
from enum import IntEnum
from struct import Struct

VARIABLE = "PGTIDE_BOARD_FD"
NODE_VARIABLE = "PGTIDE_NODE_NUMBER"

SILENCE_SECONDS = 10.0
"""An engine that has said nothing for so long counts as gone."""

_STAGE = Struct("=dq")
_ASKED = Struct("=d")
_NODE = Struct("=qq")
_ASKED_AT = 16
_NODES_AT = 64
_NODES = 257
"""So many have a place here: 256, and the successor of one of them."""
_SIZE = _NODES_AT + _NODE.size * _NODES


class Stage(IntEnum):
    """How far the engine has come.

    GONE: it is not there. CONNECTING: it tries to reach Postgres. WAITING: another pgtide holds the
    lock. PREPARING: it sets up publication and slot; SLOT: Postgres makes the slot, which waits for
    open transactions. STREAMING: changes come in. RESTING: idle, so its connections are closed.
    """

    GONE = 0
    CONNECTING = 1
    WAITING = 2
    PREPARING = 3
    SLOT = 4
    STREAMING = 5
    RESTING = 6


class Board:
    """The shared file, in any of the processes. Reading and writing are plain memory accesses."""

    def __init__(self, descriptor: int | None = None) -> None:
        """Without a descriptor a new one."""
        if descriptor is None:
            with tempfile.TemporaryFile() as file:
                descriptor = os.dup(file.fileno())
            os.ftruncate(descriptor, _SIZE)
        self._descriptor = descriptor
        self._memory = mmap.mmap(descriptor, _SIZE)
        self._stage = Stage.GONE

    @classmethod
    def inherited(cls) -> Board:
        """That of the supervisor, or one of its own in a process that was started by hand."""
        descriptor = os.environ.get(VARIABLE)
        if not descriptor:
            return cls()
        os.set_inheritable(int(descriptor), False)
        return cls(int(descriptor))

    def fileno(self) -> int:
        return self._descriptor

    def close(self) -> None:
        self._memory.close()
        os.close(self._descriptor)

    # -- the engine's side -------------------------------------------------------------------------

    def post(self, stage: Stage | None = None) -> None:
        """Say in which stage the engine is; without one, that it is still there."""
        if stage is not None:
            self._stage = stage
        _STAGE.pack_into(self._memory, 0, time.monotonic(), self._stage)

    @property
    def asked(self) -> float:
        """When any node last had a request; 0 for never."""
        (when,) = _ASKED.unpack_from(self._memory, _ASKED_AT)
        return when

    # -- the nodes' side ---------------------------------------------------------------------------

    @property
    def stage(self) -> Stage:
        """Where the engine is now."""
        when, stage = _STAGE.unpack_from(self._memory)
        if time.monotonic() - when > SILENCE_SECONDS:
            return Stage.GONE
        return Stage(stage)

    def ask(self) -> None:
        """Note that there is a request."""
        _ASKED.pack_into(self._memory, _ASKED_AT, time.monotonic())

    def serve(self, node: int, *, serving: bool = True) -> None:
        """Note that a node (numbered from 1) answers requests."""
        if 0 < node <= _NODES:
            _NODE.pack_into(self._memory, _place(node), os.getpid() if serving else 0, 0)

    def wish(self, node: int, surplus: int) -> None:
        """Ask for a successor to a node that serves, because it keeps `surplus` bytes that it has no
        use for; 0 withdraws that."""
        if 0 < node <= _NODES:
            pid, _ = _NODE.unpack_from(self._memory, _place(node))
            _NODE.pack_into(self._memory, _place(node), pid, surplus)

    # -- the supervisor's side ---------------------------------------------------------------------

    @property
    def serving(self) -> int:
        """How many nodes have begun to answer requests."""
        return sum(map(self.serves, range(1, _NODES + 1)))

    def serves(self, node: int) -> bool:
        """Whether this node has begun to."""
        return 0 < node <= _NODES and _NODE.unpack_from(self._memory, _place(node))[0] != 0

    def surplus(self, node: int) -> int:
        """Bytes for whose sake this node wants a successor; 0 if it does not."""
        if not 0 < node <= _NODES:
            return 0
        return _NODE.unpack_from(self._memory, _place(node))[1]


def _place(node: int) -> int:
    return _NODES_AT + _NODE.size * (node - 1)
