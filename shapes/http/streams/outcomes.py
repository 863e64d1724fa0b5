"""From what became of an append to an answer: one table. Pure."""

from __future__ import annotations

from collections.abc import Mapping

from shapes.http.streams.stream_headers import CLOSED, Header, next_offset
from shapes.streams.stream import Append, Appended, Outcome

_REFUSALS: Mapping[Outcome, tuple[int, bytes]] = {
    Outcome.MISSING: (404, b"there is no such stream: make it with PUT"),
    Outcome.GONE: (410, b"the stream was deleted or has expired"),
    Outcome.CLOSED: (409, b"the stream is closed"),
    Outcome.OTHER_TYPE: (409, b"the stream has another content type"),
    Outcome.STALE_EPOCH: (403, b"the producer goes on elsewhere, with a higher epoch"),
    Outcome.EPOCH_WITHOUT_START: (400, b"a new epoch has to begin with Producer-Seq 0"),
    Outcome.GAP: (409, b"requests of the producer before this one are missing"),
    Outcome.OLD_SEQUENCE: (409, b"Stream-Seq is not greater than the last one"),
    Outcome.TOO_LARGE: (413, b"the request's body is too large"),
}


def answer_to(request: Append, done: Appended) -> tuple[int, list[Header], bytes]:
    """Status, headers and text; an answer of success has no text."""
    if done.outcome in _REFUSALS:
        status, text = _REFUSALS[done.outcome]
        return status, _refusal_headers(request, done, status), text
    headers = [next_offset(done.tail)]
    if request.close or (done.outcome is Outcome.DUPLICATE and done.closed):
        headers.append(CLOSED)
    stamp = request.stamp
    if stamp is None:
        return 204, headers, b""
    sequence = stamp.sequence if done.outcome is Outcome.APPENDED else done.last
    epoch = stamp.epoch if done.outcome is Outcome.APPENDED else done.epoch
    headers += ((b"producer-epoch", b"%d" % epoch), (b"producer-seq", b"%d" % sequence))
    return (200 if done.outcome is Outcome.APPENDED and request.parts else 204), headers, b""


def _refusal_headers(request: Append, done: Appended, status: int) -> list[Header]:
    headers: list[Header] = []
    if done.outcome is Outcome.CLOSED:
        headers += (CLOSED, next_offset(done.tail))
    stamp = request.stamp
    if stamp is None:
        return headers
    if done.outcome is Outcome.STALE_EPOCH:
        headers.append((b"producer-epoch", b"%d" % done.epoch))
    if status == 409:
        # Clients take a 409 that names no sequence for a gap from 0 on, and repeat without a pause.
        # Where repeating is of no use, the one expected is the one that came: they give up then.
        gap = done.outcome is Outcome.GAP
        headers += (
            (b"producer-expected-seq", b"%d" % (done.last + 1 if gap else stamp.sequence)),
            (b"producer-received-seq", b"%d" % stamp.sequence),
        )
    return headers
