"""The rows of a snapshot in the form in which they are presented. Pure but for where they go."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

import orjson

from shapes.runs.presentation import Presentation
from shapes.shape import Projection

Output = Callable[[bytes], Coroutine[Any, Any, None]]


class PresentedRows:
    """Presents the messages of a COPY stream and hands them on: whole lines, in the stream's form.

    The first line, which says what the snapshot sees, stays as it is.
    """

    def __init__(self, presentation: Presentation, output: Output) -> None:
        self._presentation = presentation
        self._names = presentation.columns
        self._output = output
        self._held = b""
        self._begun = False

    async def feed(self, data: bytes) -> None:
        """The next piece of the stream, which ends with its last line."""
        end = data.rfind(b"\n")
        if end < 0:
            self._held += data
            return
        lines = (self._held + data[:end]).split(b"\n")
        self._held = data[end + 1 :]
        if not self._begun:
            self._begun = True
            await self._output(lines.pop(0) + b"\n")
        if lines:
            await self._output(b"".join([self._presented(line) for line in lines]))

    def _presented(self, line: bytes) -> bytes:
        # Behind each message there is a comma.
        message = orjson.loads(line[:-1])
        row = message["value"]
        message["value"] = self._presentation.values([row[name] for name in self._names])
        return orjson.dumps(message) + b",\n"


def presented(projection: Projection, output: Output) -> Output:
    """Where the rows of a COPY stream go first, so that `output` gets them presented."""
    presentation = projection.presentation
    return output if presentation is None else PresentedRows(presentation, output).feed
