"""What a request says a shape should be. Pure."""

from __future__ import annotations

from typing import NamedTuple

from engine.errors import PgtideError


class InvalidRequestError(PgtideError):
    """The request cannot be served as it is; `errors` says what is wrong with which parameter."""

    code = "invalid_request"

    def __init__(self, field: str, message: str) -> None:
        super().__init__(f"{field}: {message}")
        self.errors = {field: [message]}


class Definition(NamedTuple):
    """The parameters that make up a shape, as they came. `params` are ordered by number."""

    table: str
    where: str | None = None
    params: tuple[tuple[str, str], ...] = ()
    columns: str | None = None
    full_replica: bool = False
    changes_only: bool = False
