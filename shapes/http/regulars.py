"""Live requests that come again and again: what was decided about one of them holds for the next.

Whoever follows a run asks after each change, with the same credential, for what comes after another
place of the same shape. Which shape is meant, and that the credential allows to go on with it, follows
from all of the request but that place. So it is found out once, in the ordinary way, and known from
then on for as long as the credential stands.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from hashlib import blake2b
from typing import TYPE_CHECKING
from weakref import WeakValueDictionary

from shapes.access.authority import Authority
from shapes.access.grant import AuthenticationError, Grant
from shapes.access.leases import Lease, Leases
from shapes.definition import Definition
from shapes.http.live_limit import LiveLimit
from shapes.http.responses import Header, Scope

if TYPE_CHECKING:
    from shapes.http.responder import Responder

ELECTRIC_VERSION = b"x-trigger-electric-version"
API_VERSION = b"x-trigger-api-version"

PREFIX = b"/realtime/"
"""Only requests for runs, which begin so, have regulars."""

MOST_KNOWN = 16_384

_PLACE = re.compile(rb"(?<![^?&])(cursor|handle|live|offset|shape_id)=([^&%+]*)&?")

IsOver = Callable[[Sequence[bytes]], bool]
GoOn = Callable[["Responder", "Regular"], Awaitable[None]]


class Audience:
    """Those who get the same answer when they ask for what comes after the same place."""

    __slots__ = ("__weakref__", "dated", "definition", "go_on", "is_over")

    def __init__(
        self, definition: Definition, go_on: GoOn, is_over: IsOver | None, *, dated: bool
    ) -> None:
        """`go_on` answers one of them. `dated`: they expect former names of headers."""
        self.definition = definition
        self.go_on = go_on
        self.is_over = is_over
        self.dated = dated


class Regular:
    """Somebody who has been allowed to follow a shape, and asks for more of it."""

    __slots__ = ("audience", "grant")

    def __init__(self, audience: Audience, grant: Grant) -> None:
        self.audience = audience
        self.grant = grant


class Stay:
    """That somebody waits. Release it whatever happens; twice does no harm."""

    __slots__ = ("_environment", "_lease", "_regulars")

    def __init__(self, regulars: Regulars, environment: str, lease: Lease | None) -> None:
        self._regulars: Regulars | None = regulars
        self._environment = environment
        self._lease = lease

    def release(self) -> None:
        regulars, self._regulars = self._regulars, None
        if regulars is not None:
            regulars.leases.release(self._lease)
            regulars.limit.give(self._environment)


class Regulars:
    """All that a node knows: those who have come lately."""

    def __init__(self, authority: Authority, leases: Leases, limit: LiveLimit) -> None:
        self.leases = leases
        self.limit = limit
        self._authority = authority
        self._edition = authority.edition
        self._recent: dict[bytes, Regular] = {}
        self._former: dict[bytes, Regular] = {}
        self._audiences = WeakValueDictionary[tuple[Definition, bool], Audience]()

    def __len__(self) -> int:
        return len(self._recent) + len(self._former)

    def recognise(self, url: bytes, headers: Sequence[Header]) -> Regular | None:
        """Who asks, if what they may do is known and still holds."""
        if b"live=true" not in url:
            return None
        if self._edition != self._authority.edition:
            self._edition = self._authority.edition
            self._recent.clear()
            self._former.clear()
        key = _key(url, headers)
        regular = self._recent.get(key)
        if regular is None:
            regular = self._former.pop(key, None)
            if regular is None:
                return None
            self._recent[key] = regular
        return regular if self._authority.counts(regular.grant) else None

    def note(self, scope: Scope, query: Mapping[str, str], grant: Grant, found: Audience) -> None:
        """The request has been allowed with this grant; `found` is its audience."""
        url = b"%b?%b" % (scope["raw_path"], scope["query_string"])
        place = place_of(url)
        if any(query.get(name) != place.get(name) for name in _NAMES):
            # It is spelled in a way of its own.
            return
        if len(self._recent) >= MOST_KNOWN // 2:
            self.forget()
        audience = self._audiences.setdefault((found.definition, found.dated), found)
        self._recent[_key(url, scope["headers"])] = Regular(audience, grant)

    def forget(self) -> None:
        """Forget those who have not come since the last time."""
        self._recent, self._former = {}, self._recent

    def stay(self, regular: Regular, end: Callable[[], None]) -> Stay | None:
        """Let a regular wait; None if too many do. `end` is called if the grant ends meanwhile."""
        environment = regular.grant.environment
        if not self.limit.take(environment):
            return None
        return Stay(self, environment, self.leases.begin(regular.grant, end))

    def stay_in(self, environment: str) -> Stay | None:
        """Let somebody wait with another one, whose grant is the same; None if too many do."""
        return Stay(self, environment, None) if self.limit.take(environment) else None

    def environment_of(self, authorization: bytes | None) -> str | None:
        """That of a credential, None if it is no good."""
        text = None if authorization is None else authorization.decode("latin-1")
        try:
            return self._authority.authenticate(text, public=True).environment
        except AuthenticationError:
            return None


_NAMES = ("cursor", "handle", "live", "offset", "shape_id")


def place_of(target: bytes) -> dict[str, str]:
    """The parameters that differ from one request of a regular to the next."""
    return {name.decode(): value.decode("latin-1") for name, value in _PLACE.findall(target)}


def _key(url: bytes, headers: Sequence[Header]) -> bytes:
    """What all requests of a regular have in common. Credentials are not kept."""
    authorization = b""
    named = 0
    for name, value in headers:
        if name == b"authorization":
            authorization = value
        elif name == ELECTRIC_VERSION:
            named |= 1
        elif name == API_VERSION:
            named |= 2
    text = b"%b\n%d\n%b" % (_PLACE.sub(b"", url), named, authorization)
    return blake2b(text, digest_size=16).digest()
