"""What a credential allows. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

from engine.errors import PgtideError
from shapes.access.scopes import Resource, Scope, granted


class AuthenticationError(PgtideError):
    """There is no credential, or it is not valid (any more); answered with 401."""

    code = "unauthenticated"


class ForbiddenError(PgtideError):
    """The credential is valid and does not allow this; answered with 403."""

    code = "unauthorized"


class TableGrant(NamedTuple):
    """What a token allows of one table: these columns (None is all), of the rows that match.

    `params` are (number, value) of the filter's `$n`, as in a request.
    """

    schema: str
    name: str
    columns: tuple[str, ...] | None = None
    where: str | None = None
    params: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Grant:
    """What one credential allows, in one environment.

    `scopes` is None for a secret key, which may do everything there. `public` tells tokens that
    are made for browsers. `skip_columns` takes the place of what a request wants to skip.
    `expires_at` is in seconds since 1970. `digest` is there for tokens that may start something
    only once, and is the same however such a token is spelled. `tables` are those that a token
    opens in part. `key` tells which key it hangs on; None if on none.
    """

    environment: str
    scopes: tuple[Scope, ...] | None = None
    public: bool = False
    skip_columns: tuple[str, ...] | None = None
    expires_at: float | None = None
    digest: bytes | None = None
    tables: tuple[TableGrant, ...] = ()
    key: bytes | None = None

    @property
    def unlimited(self) -> bool:
        return self.scopes is None

    @property
    def realtime(self) -> dict[str, object] | None:
        """What tokens that are given out because of this one carry on, as their claim."""
        return None if self.skip_columns is None else {"skipColumns": list(self.skip_columns)}

    def allows_any(self, action: str, resources: Iterable[Resource]) -> bool:
        """Whether `action` is allowed on one of the resources. Nothing is allowed on none."""
        if self.scopes is None:
            return True
        return any(granted(self.scopes, action, resource) for resource in resources)

    def allows_every(self, action: str, resources: Iterable[Resource]) -> bool:
        """Whether `action` is allowed on each of the resources, of which there is at least one."""
        if self.scopes is None:
            return True
        wanted = list(resources)
        return bool(wanted) and all(granted(self.scopes, action, one) for one in wanted)
