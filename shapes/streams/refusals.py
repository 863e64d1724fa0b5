"""Why something cannot be done with a stream. Pure."""

from __future__ import annotations

from enum import Enum

from engine.errors import DatabaseSetupError, PgtideError


class Refusal(Enum):
    """Why a stream was not made."""

    DIFFERS = "differs"
    """There is one with another configuration."""
    GONE = "gone"
    """There was one, and its forks still keep the path."""
    SOURCE_MISSING = "source missing"
    SOURCE_GONE = "source gone"
    BAD_FORK_OFFSET = "bad fork offset"
    BAD_SUB_OFFSET = "bad sub-offset"
    OTHER_TYPE = "other type"
    """Than the source's."""
    NOT_JSON = "not JSON"
    TOO_LARGE = "too large"


class StreamRefusedError(PgtideError):
    """A stream cannot be made like this; `reason` tells why."""

    code = "stream_refused"

    def __init__(self, reason: Refusal, message: str) -> None:
        super().__init__(message)
        self.reason = reason


class BelowHorizonError(PgtideError):
    """What is asked for has been dropped: the stream begins at `head` now."""

    code = "below_horizon"

    def __init__(self, head: int) -> None:
        super().__init__(
            f"the stream's older messages have been dropped: it begins at message {head} now"
        )
        self.head = head


class StreamTablesError(DatabaseSetupError):
    """The tables of streams are not as this needs them; the message says what to do."""

    code = "stream_tables"

    @classmethod
    def missing(cls) -> StreamTablesError:
        return cls(
            "Postgres lacks the tables of streams, or they are older than this: run `pgtide migrate`"
        )

    @classmethod
    def forbidden(cls) -> StreamTablesError:
        return cls("pgtide's role may not do this to streams: grant it what sql/roles.sql grants")
