"""Scopes, as tokens carry them: `action[:type[:id]]`. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

ANY_ACTION = "*"
ALL_TYPES = "all"
ADMIN = "admin"
SHAPES = "shapes"
"""The type of resource that the tables are. Only scopes that name it open them: whoever gave a token
for runs `read:all` or `admin` did not think of the other tables."""


class Resource(NamedTuple):
    """What is acted upon: one thing of a type, or without `id` all things of the type."""

    type: str
    id: str | None = None


class Scope(NamedTuple):
    """One permission. Without `type` it grants nothing, unless the action is `admin`.

    Nor does it with an empty text as `type` or `id`, which is what a variable leaves that has no value:
    that is not the same as no `id`.
    """

    action: str
    type: str | None = None
    id: str | None = None

    @classmethod
    def parse(cls, text: str) -> Scope:
        """Read a scope. Only the first two colons separate: ids may contain more of them."""
        action, typed, rest = text.partition(":")
        kind, single, identity = rest.partition(":")
        return cls(action, kind if typed else None, identity if single else None)

    def __str__(self) -> str:
        return ":".join(part for part in self if part is not None)

    def grants(self, action: str, resource: Resource) -> bool:
        """Whether this scope alone suffices for `action` on `resource`."""
        if self.type is None:
            return self.action == ADMIN
        if self.action not in (action, ANY_ACTION) or "" in (self.type, self.id):
            return False
        if self.type == ALL_TYPES:
            return self.id is None
        return self.type == resource.type and self.id in (None, resource.id)

    def covers(self, other: Scope) -> bool:
        """Whether everything that `other` grants is granted by this one, too."""
        if other.type is None:
            return other.action != ADMIN or (self.action, self.type) == (ADMIN, None)
        if other.type == SHAPES and self.type != SHAPES:
            return False
        if self.type is None:
            return self.action == ADMIN
        if self.action not in (other.action, ANY_ACTION):
            return False
        if self.type == ALL_TYPES:
            return self.id is None
        return self.type == other.type and self.id in (None, other.id)


def granted(scopes: Iterable[Scope], action: str, resource: Resource) -> bool:
    """Whether one of the scopes suffices."""
    return any(scope.grants(action, resource) for scope in scopes)
