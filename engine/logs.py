"""How every process of pgtide logs: one line per event on stderr, without secrets."""

from __future__ import annotations

import logging
import os
import time

from engine.redaction import redact

# The supervisor names its children by it: `node-1`, `engine`.
PROCESS_VARIABLE = "PGTIDE_PROCESS"


class _Lines(logging.Formatter):
    """`2026-01-31T12:00:00.000Z INFO node-1  text key=value`, redacted with its traceback."""

    def __init__(self, process: str) -> None:
        prefix = f"%(asctime)s.%(msecs)03dZ %(levelname)s {process.replace('%', '%%')}  "
        super().__init__(prefix + "%(message)s", "%Y-%m-%dT%H:%M:%S")
        self.converter = time.gmtime

    def format(self, record: logging.LogRecord) -> str:
        return redact(super().format(record))


def configure(process: str, level: str = "info") -> None:
    """Set up logging for this process, once, at its start. `level` is Settings.log_level.

    `process` is what the lines call it unless whoever started it said otherwise.
    """
    handler = logging.StreamHandler()
    handler.setFormatter(_Lines(os.environ.get(PROCESS_VARIABLE) or process))
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    logging.captureWarnings(True)
