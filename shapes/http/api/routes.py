"""Routes: a path, who may take it, and what happens then."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING
from urllib.parse import unquote

from shapes.access.scopes import Resource

if TYPE_CHECKING:
    from shapes.http.api.call import Call, Reply

Find = Callable[["Call"], Awaitable[Sequence[Resource]]]
Handler = Callable[["Call"], Awaitable["Reply | None"]]

SMALL_BODY = 1 << 20

_WORDS = 2
"""With so many segments, none of them a name, all patterns begin."""

_MOST_KNOWN = 4096
_KNOWN_BYTES = 200
"""So many paths that came lately are known, unless they are longer."""

_SEGMENTLESS = frozenset(("", ".", ".."))


@dataclass(frozen=True, slots=True)
class SecretKey:
    """Only for back ends: tokens are refused like unknown keys (401), and unless `restricted` keys with
    scopes are, too (403)."""

    restricted: bool = False


@dataclass(frozen=True, slots=True)
class Unchecked:
    """For everybody. The address itself carries the permission, and the handler verifies it."""


@dataclass(frozen=True, slots=True)
class Also:
    """What some requests need besides: `action` on one of the resources that `find` gives. Those for
    which it gives None need nothing more."""

    action: str
    find: Callable[[Call], Awaitable[Sequence[Resource] | None]]


@dataclass(frozen=True, slots=True)
class Needs:
    """For credentials that may do `action` on one of the resources that `find` gives (with `every`: on
    each of them). `find` may raise ApiError, e.g. 404; it may note what it found in `call.found`.
    `also` has to be allowed, too."""

    action: str
    find: Find
    every: bool = False
    also: Also | None = None


@dataclass(frozen=True, slots=True)
class AnyCredential:
    """For every valid credential: what is asked for comes in piece by piece, and the handler judges
    each piece (ForbiddenError)."""


Access = SecretKey | Unchecked | Needs | AnyCredential


@dataclass(frozen=True, slots=True)
class Route:
    """`pattern` has names in braces for segments, e.g. `/api/v3/runs/{id}`; a last one with an asterisk
    (`{path*}`) takes all that are left, at least one, joined by slashes. A handler that answers by
    itself, through `call.responder`, returns None."""

    methods: frozenset[str]
    pattern: str
    access: Access
    handler: Handler
    max_body: int = SMALL_BODY


def get(pattern: str, access: Access, handler: Handler) -> Route:
    return Route(frozenset(("GET", "HEAD")), pattern, access, handler)


def post(pattern: str, access: Access, handler: Handler, max_body: int = SMALL_BODY) -> Route:
    return Route(frozenset(("POST",)), pattern, access, handler, max_body)


def put(pattern: str, access: Access, handler: Handler, max_body: int = SMALL_BODY) -> Route:
    return Route(frozenset(("PUT",)), pattern, access, handler, max_body)


class RouteTable:
    """Finds the routes of a path.

    The path is split before it is decoded, so `my%2Ftask` is one segment. There is one spelling of
    each path: empty segments (`//`, a slash at the end), `.` and `..`, however written, match nothing.
    """

    def __init__(self, routes: Sequence[Route]) -> None:
        patterns: dict[tuple[str, ...], list[Route]] = {}
        for route in routes:
            patterns.setdefault(tuple(route.pattern.strip("/").split("/")), []).append(route)
        self._patterns: dict[tuple[str, ...], list[tuple[tuple[str, ...], list[Route]]]] = {}
        for pattern, found in patterns.items():
            assert not any(word.startswith("{") for word in pattern[:_WORDS]), pattern
            self._patterns.setdefault(pattern[:_WORDS], []).append((pattern, found))
        self._known = lru_cache(_MOST_KNOWN)(self._find)

    def find(self, raw_path: bytes) -> tuple[Mapping[str, str], Sequence[Route]]:
        """The path's values by name, and the routes that it means, one per set of methods."""
        return (self._known if len(raw_path) <= _KNOWN_BYTES else self._find)(raw_path)

    def forget(self) -> None:
        """Know no paths any more: what is kept of each would keep much memory around it."""
        self._known.cache_clear()

    def _find(self, raw_path: bytes) -> tuple[Mapping[str, str], Sequence[Route]]:
        segments = path_segments(raw_path)
        if segments is None:
            return {}, []
        best: dict[str, str] = {}
        found: list[Route] = []
        most = -1
        for pattern, routes in self._patterns.get(tuple(segments[:_WORDS]), ()):
            values = _match(pattern, segments)
            if values is None:
                continue
            # Words count more than names: /runs/latest before /runs/{id}, /a/b/{c*} before /a/{b*}.
            words = len(pattern) - len(values)
            if words < most:
                continue
            if words > most:
                most, found = words, []
            best = values
            found += routes
        return best, found


def path_segments(raw_path: bytes) -> list[str] | None:
    """The segments of a path, decoded; None if it has none, or is spelled in a way that matches
    nothing."""
    try:
        parts = raw_path.decode("ascii").split("/")
        if b"%" in raw_path:
            parts = [unquote(part, errors="strict") for part in parts]
    except UnicodeDecodeError:
        return None
    segments = parts[1:]
    if parts[0] or not _SEGMENTLESS.isdisjoint(segments) or any("\0" in one for one in segments):
        return None
    return segments


def _match(pattern: tuple[str, ...], segments: list[str]) -> dict[str, str] | None:
    if pattern[-1].endswith("*}"):
        last = len(pattern) - 1
        # A slash within a segment would be another path's spelling.
        if len(segments) <= last or any("/" in segment for segment in segments[last:]):
            return None
        segments = [*segments[:last], "/".join(segments[last:])]
    if len(pattern) != len(segments):
        return None
    values: dict[str, str] = {}
    for expected, segment in zip(pattern, segments, strict=True):
        if expected.startswith("{"):
            values[expected[1:-1].removesuffix("*")] = segment
        elif expected != segment:
            return None
    return values
