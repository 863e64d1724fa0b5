"""One call: a request that is tried again while that may help, and the error that it ends in."""

from __future__ import annotations

import json
import uuid
from collections.abc import Container, Mapping
from dataclasses import dataclass, replace
from typing import Any, cast

from pgtide.errors import (
    AnsweredError,
    AuthenticationError,
    ConnectionLostError,
    GoneError,
    InvalidRequestError,
    NotFoundError,
    PermissionDeniedError,
    PgtideError,
    RateLimitedError,
    ServerError,
    UnexpectedAnswerError,
)
from pgtide.protocol.backoff import Backoff, retry_after
from pgtide.protocol.steps import Answer, Plan, Request, clock, credential, fetch, pause

SHOWN_CHARACTERS = 500
MAX_RETRIES = 5
TRIED_AGAIN = (408, 425, 429)


@dataclass(frozen=True, slots=True)
class Patience:
    """How often, and for how many seconds, a request is tried again after a failure that may pass.

    None: for ever.
    """

    max_retries: int | None = MAX_RETRIES
    seconds: float | None = None

    def allows(self, failures: int, elapsed: float = 0.0) -> bool:
        if self.seconds is not None and elapsed >= self.seconds:
            return False
        return self.max_retries is None or failures < self.max_retries


def call(
    method: str,
    path: str,
    *,
    query: tuple[tuple[str, str], ...] = (),
    body: object = None,
    token: str | None = None,
    patience: Patience | None = None,
    idempotency: str | None = None,
) -> Plan[Answer]:
    """Send JSON, get an answer of 2xx. The server does what is asked once, however often it is asked,
    because attempts carry the same key. Raises what `refusal` makes of other answers, and
    ConnectionLostError."""
    headers = [
        ("content-type", "application/json"),
        ("x-trigger-request-idempotency-key", idempotency or str(uuid.uuid4())),
    ]
    data = None if body is None else dump(body)
    request = Request(method, path, query, tuple(headers), data)
    answer = yield from attempt(request, patience or Patience(), token=token)
    return answer


def attempt(
    request: Request,
    patience: Patience,
    *,
    token: str | None = None,
    anonymous: bool = False,
    accept: Container[int] = (),
) -> Plan[Answer]:
    """As `call`, for a request that is complete but for its credential (`token`: use this one).
    Answers of a status in `accept` are returned as they are."""
    backoff = Backoff()
    renewed = anonymous or token is not None
    used = token if renewed else (yield from credential())
    began = yield from clock()
    while True:
        try:
            answer = yield from fetch(authorized(request, used))
        except ConnectionLostError:
            if not patience.allows(backoff.failures, (yield from clock()) - began):
                raise
            yield from pause(backoff.next())
            continue
        if answer.status < 300 or answer.status in accept:
            return answer
        if answer.status == 401 and not renewed:
            renewed = True
            other = yield from credential(refused=used)
            if other != used:
                used = other
                continue
        elapsed = (yield from clock()) - began
        if not may_pass(answer) or not patience.allows(backoff.failures, elapsed):
            raise refusal(request, answer, used)
        yield from pause(backoff.next(retry_after(answer.headers)))


def authorized(request: Request, token: str | None) -> Request:
    if not token:
        return request
    return replace(request, headers=(*request.headers, ("authorization", f"Bearer {token}")))


def may_pass(answer: Answer) -> bool:
    """Whether the same request may succeed later."""
    if answer.headers.get("x-should-retry") == "false":
        return False
    return answer.status in TRIED_AGAIN or answer.status >= 500


def refusal(request: Request, answer: Answer, *secrets: str | None) -> PgtideError:
    """The error for an answer that is not 2xx; `secrets` that it may repeat are left out."""
    reason, code, details = _explained(answer.body, [one for one in secrets if one])
    status = answer.status
    if request.method == "HEAD":  # Its answer has no body that could say it.
        reason = _OF_STREAMS.get(status, "")
    message = f"{request}: {status} {reason}".rstrip()
    if status == 401:
        return AuthenticationError(f"{message}. {_HOW_TO_AUTHENTICATE}", status, code, details)
    if status == 403:
        return PermissionDeniedError(message, status, code, details)
    if status == 404:
        return NotFoundError(message, status, code, details)
    if status == 410:
        return GoneError(message, status, code, details)
    if status == 429:
        return RateLimitedError(message, status, code, details, retry_after(answer.headers))
    if status >= 500:
        return ServerError(message, status, code, details)
    if status >= 400:
        return InvalidRequestError(message, status, details)
    where = " It redirects: give the address that it redirects to." if status >= 300 else ""
    return UnexpectedAnswerError(f"{message}: is this pgtide's address?{where}")


_OF_STREAMS = {404: "There is no such stream: create() makes it", 410: "The stream was deleted"}
_HOW_TO_AUTHENTICATE = (
    "Give secret_key or access_token to configure() or Client(), or set PGTIDE_SECRET_KEY"
)


def _explained(body: bytes, secrets: list[str]) -> tuple[str, str | None, Any]:
    """Reason, code and details of an error's body."""
    text = body.decode(errors="replace").strip()
    for secret in secrets:
        text = text.replace(secret, "…")
    try:
        details: Any = json.loads(text)
    except ValueError:
        return text[:SHOWN_CHARACTERS], None, text or None
    if not isinstance(details, dict):
        return text[:SHOWN_CHARACTERS], None, cast("object", details)
    known = cast("dict[str, Any]", details)
    reason = known.get("error") or known.get("message") or ""
    more = known.get("errors") or known.get("details")
    parts = [str(reason), json.dumps(more, ensure_ascii=False) if more else ""]
    code = known.get("code")
    shown = " ".join(filter(None, parts))[:SHOWN_CHARACTERS]
    return shown, code if isinstance(code, str) else None, known


def dump(value: object) -> bytes:
    """As JSON. Raises InvalidRequestError for what JSON has no form for."""
    try:
        return json.dumps(
            value, ensure_ascii=False, separators=(",", ":"), allow_nan=False
        ).encode()
    except (TypeError, ValueError) as error:
        raise InvalidRequestError(f"this cannot be written as JSON: {error}") from error


def json_object(answer: Answer) -> dict[str, Any]:
    """The body, which must be an object. Raises UnexpectedAnswerError."""
    try:
        value: Any = json.loads(answer.body)
    except ValueError:
        value = None
    if not isinstance(value, dict):
        shown = answer.body[:100].decode(errors="replace")
        raise UnexpectedAnswerError(f"not a JSON object: {shown!r}. Is this pgtide's address?")
    return cast("dict[str, Any]", value)


def text_field(body: Mapping[str, Any], name: str) -> str:
    """A field that the server always sends. Raises UnexpectedAnswerError."""
    value = body.get(name)
    if not isinstance(value, str):
        raise UnexpectedAnswerError(f"the answer has no {name!r}. Is this pgtide's address?")
    return value


def is_answered(error: BaseException) -> bool:
    """Whether the server itself refused for good: trying again does not help."""
    refused = isinstance(error, InvalidRequestError | UnexpectedAnswerError)
    passes = isinstance(error, ServerError | RateLimitedError)
    return refused or (isinstance(error, AnsweredError) and not passes)
