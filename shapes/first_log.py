"""The log as a node that starts finds it: perhaps not yet there."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path

from engine.log.reader import LogMissingError, LogReader

log = logging.getLogger("node")


async def open_log(folder: Path) -> LogReader:
    """Wait for the engine to make the log."""
    said = False
    while True:
        try:
            return _begun(LogReader(folder))
        except LogMissingError as error:
            if not said:
                log.info("waiting for the log: %s", error)
                said = True
            await asyncio.sleep(0.05)


def _begun(reader: LogReader) -> LogReader:
    try:
        reader.state()
    except LogMissingError:
        # A process may have a log open only once.
        reader.close()
        raise
    return reader
