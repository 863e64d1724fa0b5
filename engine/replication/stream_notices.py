"""Logical messages that tell what was appended to streams. They are changes like those of rows, at
their place in their transaction, of a relation that stands for all streams. What they say is none of
the engine's business.
"""

from __future__ import annotations

import logging
from typing import Final

from engine.log.layout import NOTICE_IDENTITY, RelationVersion
from engine.pgoutput import Change

log = logging.getLogger("engine")

NOTICE_PREFIX: Final = "pgtide:streams"

NOTICE_OID: Final = 0
"""No relation has it."""

NOTICES: Final = RelationVersion(0, NOTICE_OID, "", "", NOTICE_IDENTITY, ())
"""The relation; without a number."""

MOST_NOTICE_BYTES: Final = 16 << 20
"""Longer messages are left out: anybody may write them, and every node reads each in one piece."""


def notice_change(content: bytes) -> Change | None:
    """The change that a message is, None if it is too long to be one."""
    if len(content) > MOST_NOTICE_BYTES:
        log.warning(
            "a message with the prefix %s is left out: it has %s bytes, and not more than %s may be "
            "written at once",
            NOTICE_PREFIX,
            len(content),
            MOST_NOTICE_BYTES,
        )
        return None
    return ("S", NOTICE_OID, [content.decode("latin-1")], None, False)
