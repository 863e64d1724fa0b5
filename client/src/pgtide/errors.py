"""What can go wrong. Every error is a PgtideError; none of them contains a token or a secret."""

from __future__ import annotations

from typing import Any


class PgtideError(Exception):
    """Base of everything that this package raises by itself."""


class InvalidRequestError(PgtideError):
    """What was asked for makes no sense, to this package or to the server (400, 405, 413, 422).

    Asking again does not help. `status` is None if the server was not asked.
    """

    def __init__(self, message: str, status: int | None = None, details: Any = None) -> None:
        super().__init__(message)
        self.status = status
        self.details = details


class AnsweredError(PgtideError):
    """The server refused. `status` is HTTP's, `code` the server's word for the reason, if it gave
    one, and `details` its whole answer."""

    def __init__(
        self, message: str, status: int, code: str | None = None, details: Any = None
    ) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.details = details


class AuthenticationError(AnsweredError):
    """No credential, or one that is wrong or has expired (401)."""


class PermissionDeniedError(AnsweredError):
    """The credential is valid and does not allow this (403)."""


class NotFoundError(AnsweredError):
    """There is no such thing, or not in the credential's environment (404)."""


class GoneError(AnsweredError):
    """It was there, but is not any more (410): a stream that was deleted, or a position whose messages
    were dropped because of their age. Read from the beginning of what is left: leave out `after`."""


class StreamClosedError(AnsweredError):
    """The stream was closed: nothing can be appended to it. Append to another one."""


class StreamStoppedError(PgtideError):
    """Somebody has asked for this stream to stop, or its run is over: write nothing more to it.

    `stop` says which, and why.
    """

    def __init__(self, message: str, stop: Any = None) -> None:
        super().__init__(message)
        self.stop = stop


class ProducerReplacedError(PgtideError):
    """Another process writes as the same producer since. Whatever this one wrote that was not stored
    before is not in the stream: end, and leave the rest to the other one."""


class RunDeletedError(NotFoundError):
    """The run that was followed is no longer there, or no longer visible to the credential."""


class RateLimitedError(AnsweredError):
    """Too many requests (429), and the attempts are used up.

    `retry_after` is how long the server wants to be left alone, in seconds, if it said so.
    """

    def __init__(
        self,
        message: str,
        status: int = 429,
        code: str | None = None,
        details: Any = None,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(message, status, code, details)
        self.retry_after = retry_after


class ServerError(AnsweredError):
    """The server failed, or is not ready (5xx), and the attempts are used up."""


class ConnectionLostError(PgtideError):
    """The server could not be reached, or the connection broke, and the attempts are used up."""


class UnexpectedAnswerError(PgtideError):
    """An answer that pgtide does not give: something else is at this address, or in between."""


class WaitTimeoutError(PgtideError, TimeoutError):
    """What was waited for did not happen in time."""


class NoCurrentRunError(PgtideError):
    """Metadata was written outside of `metadata.of(run_id)` and `runs.current(run_id)`."""
