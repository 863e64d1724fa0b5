"""Writing to streams as Trigger.dev's packages do: line by line, or one part per request."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from typing import Final

from shapes.http.api.call import Call
from shapes.http.api.ingested_lines import ingested_lines, message_of, text_message
from shapes.http.api.stream_texts import StreamTextError, check_path
from shapes.http.api.trigger_routes import request_key
from shapes.http.exchange import STREAM, Exchange
from shapes.http.responses import Header
from shapes.streams.appending.writer import StreamWriter
from shapes.streams.stream import JSON_TYPE, Append, Appended, Outcome, Stamp

PART_BYTES: Final = 1 << 20
"""The largest part of one request."""

SILENCE_SECONDS: Final = 16 * 60.0
"""So long a client that sends lines may send nothing. Those of Trigger.dev give up after 15 minutes."""

LONGEST_CLIENT: Final = 512
"""Bytes of a client's id."""

LAST_INDEX: Final = b"x-last-chunk-index"
_EPOCH: Final = b"x-producer-epoch"
_NUMBER = re.compile(r"[0-9]{1,15}")

_REFUSALS: dict[Outcome, tuple[int, str]] = {
    Outcome.CLOSED: (409, "The stream is closed"),
    Outcome.GONE: (
        410,
        "The stream was deleted or has expired, and others still read it: use another",
    ),
    Outcome.MISSING: (410, "The stream was deleted"),
    Outcome.OTHER_TYPE: (409, f"The stream is not one of {JSON_TYPE}: use another"),
    Outcome.STALE_EPOCH: (409, "The client goes on elsewhere, with a higher epoch"),
    Outcome.EPOCH_WITHOUT_START: (409, "The client's lines before these are missing"),
    Outcome.GAP: (409, "The client's lines before these are missing"),
    Outcome.OLD_SEQUENCE: (409, "The stream has gone on meanwhile"),
    Outcome.TOO_LARGE: (413, "That is too much at once"),
}


class StreamWriting:
    """Appends what requests bring. Methods raise StreamTextError, ApiError, and what
    `StreamWriter.append` raises."""

    def __init__(self, writer: StreamWriter) -> None:
        self._writer = writer

    async def append_part(self, call: Call, path: str, message: bytes) -> Appended:
        """One JSON message, once for all repetitions of the request."""
        part = call.header(b"x-part-id") or request_key(call)
        stamp = None
        if part is not None:
            digest = hashlib.sha256(part.encode()).hexdigest()[:32]
            stamp = Stamp(f"part:{digest}", 0, 0)
        return await self._append(call, path, [message], stamp)

    async def append_text(self, call: Call, path: str) -> Appended:
        """The body as a text."""
        return await self.append_part(call, path, text_message(await call.body()))

    async def ingest(self, call: Call, path: str) -> list[Header]:
        """The lines of the body, as they come; the headers of the answer.

        Lines are numbered: those that the client has sent before are left out. While some are
        being written the client is not read from, so it is never far ahead.
        """
        check_path(path)
        client, epoch = client_of(call), number_of(call, _EPOCH)
        index = number_of(call, b"x-resume-from-chunk") or 0
        exchange: Exchange = call.responder.scope["extensions"][STREAM]
        exchange.take_time(SILENCE_SECONDS)
        done: Appended | None = None
        async for lines in ingested_lines(call.pieces()):
            messages = [message_of(line) for line in lines]
            stamp = None if client is None else Stamp(client, epoch or 0, index)
            done = await self._append(call, path, messages, stamp)
            index += len(lines)
        if client is None:
            return []
        if done is None and epoch is not None:
            # Whoever had an earlier epoch writes nothing more from now on.
            done = await self._append(call, path, [], Stamp(client, epoch, index))
        if done is None:
            return [await self.last_index(call, path)]
        return [(LAST_INDEX, b"%d" % done.last)]

    async def last_index(self, call: Call, path: str) -> Header:
        """How far the client has come."""
        client = client_of(call)
        last = -1
        if client is not None:
            last = await self._writer.last(call.grant.environment, path, client)
        return LAST_INDEX, b"%d" % last

    async def _append(
        self, call: Call, path: str, messages: Sequence[bytes], stamp: Stamp | None
    ) -> Appended:
        check_path(path)
        request = Append(
            call.grant.environment,
            path,
            tuple(messages),
            (1,) * len(messages),
            content_type=JSON_TYPE,
            stamp=stamp,
            by_part=stamp is not None,
            create=JSON_TYPE,
        )
        done = await self._writer.append(request)
        if done.outcome in _REFUSALS:
            raise _refusal(call, done)
        return done


def client_of(call: Call) -> str | None:
    """Who sends lines, None if the client does not tell. Raises StreamTextError."""
    client = call.header(b"x-client-id")
    if client is not None and not 0 < len(client) <= LONGEST_CLIENT:
        raise StreamTextError(400, f"x-client-id may have {LONGEST_CLIENT} bytes at most")
    return client


def number_of(call: Call, name: bytes) -> int | None:
    """A header that counts something. Raises StreamTextError."""
    text = call.header(name)
    if text is not None and not _NUMBER.fullmatch(text):
        raise StreamTextError(400, f"{name.decode()} must be a number from 0 on")
    return None if text is None else int(text)


def _refusal(call: Call, done: Appended) -> StreamTextError:
    status, message = _REFUSALS[done.outcome]
    headers: list[Header] = [(LAST_INDEX, b"%d" % done.last)]
    if done.outcome is Outcome.STALE_EPOCH:
        headers.append((_EPOCH, b"%d" % done.epoch))
    elif done.outcome is Outcome.GAP and call.header(_EPOCH) is None:
        # The packages ask where they are and go on from there, but only after an error that passes.
        status = 503
    return StreamTextError(status, message, *headers)
