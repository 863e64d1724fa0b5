"""What a request says a shape should be. Pure."""

from __future__ import annotations

from typing import NamedTuple

from engine.errors import PgtideError


class InvalidRequestError(PgtideError):
    """The request cannot be served as it is; `errors` says what is wrong with which parameter."""

    code = "invalid_request"

    def __init__(self, errors: dict[str, list[str]]) -> None:
        super().__init__(
            "; ".join(f"{field}: {message}" for field in errors for message in errors[field])
        )
        self.errors = errors

    @classmethod
    def of(cls, field: str, message: str) -> InvalidRequestError:
        """The error of one parameter."""
        return cls({field: [message]})


class Definition(NamedTuple):
    """The parameters that make up a shape, as they came. `params` are ordered by number."""

    table: str
    where: str | None = None
    params: tuple[tuple[str, str], ...] = ()
    columns: str | None = None
    full_replica: bool = False
    changes_only: bool = False
