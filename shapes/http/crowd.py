"""Equal long polls are answered together: one is served, the others get a copy of its answer.

Clients of one shape that are at the same offset send the same URL (their cursors are made for that),
and an answer follows from the URL alone, which is what lets caches join such requests. Doing the same
here makes a delivery about as cheap as writing bytes to a socket.
"""

from __future__ import annotations

import os
from itertools import count
from typing import TYPE_CHECKING

from engine.configuration.access_keys import DEFAULT_ENVIRONMENT
from shapes.http.regulars import Audience, Regular, Regulars, Stay
from shapes.http.responses import REQUEST_ID

if TYPE_CHECKING:
    from shapes.http.connection import Connection
    from shapes.http.exchange import Exchange

Key = tuple[bytes, bytes, bytes | Audience]
"""URL, origin, and who asks: authorization (and what else an answer depends on), or those for whom that
makes no difference."""

_SHAPES = b"/v1/shape?"
_STREAMS = b"/v1/stream/"

LARGE_BYTES = 16 << 10
"""From this size on a body is not copied together with its headers."""

_OTHERWISE = frozenset((b"if-none-match", b"content-length", b"transfer-encoding", b"expect"))
"""Headers with which a request may be answered in another way, or is not here in full yet."""

_COMMON = frozenset((200, 204, 409))
"""Statuses of answers that are good for all; what is refused is refused to each alone."""

_NEWS = b"\r\nelectric-has-data: true\r\n"
_MESSAGES = b"\r\nstream-next-offset: "
_ID = b"x-request-id: %b\r\n"


class Group:
    """Equal requests, but for the one that is being served."""

    __slots__ = ("followers", "key")

    def __init__(self, key: Key) -> None:
        self.key = key
        self.followers: dict[Follower, None] = {}

    @property
    def is_of_stream(self) -> bool:
        return self.key[0].startswith(_STREAMS)


class Follower:
    """A request that waits for the answer to an equal one."""

    __slots__ = ("connection", "group", "headers", "keep_alive", "request_id", "stay")

    status = 0
    """No answer has begun."""

    def __init__(
        self,
        connection: Connection,
        group: Group,
        headers: list[tuple[bytes, bytes]],
        request_id: bytes,
    ) -> None:
        self.connection = connection
        self.group = group
        self.headers = headers
        self.request_id = request_id
        self.stay: Stay | None = None
        self.keep_alive = True

    def disconnect(self) -> None:
        """There is nobody left to answer."""
        self.group.followers.pop(self, None)
        self.release()

    def release(self) -> None:
        """It does not wait any longer."""
        if self.stay is not None:
            self.stay.release()

    def leave(self) -> None:
        """What allowed to wait no longer does: be served, or refused, by oneself."""
        if self in self.group.followers:
            self.disconnect()
            self.connection.serve(self, None)


class Crowd:
    """All groups of a node."""

    def __init__(self, regulars: Regulars) -> None:
        self._regulars = regulars
        self._groups: dict[Key, Group] = {}
        self._prefix = os.urandom(6).hex()
        self._numbers = count(1)
        self.delivered = 0
        """How many have got news of shapes in this way,"""
        self.delivered_of_streams = 0
        """and how many of streams."""

    def __len__(self) -> int:
        """How many requests wait for the answer to another one."""
        return sum(len(group.followers) for group in self._groups.values())

    @property
    def waiting_for_streams(self) -> int:
        """How many of them wait for a stream."""
        return sum(len(one.followers) for one in self._groups.values() if one.is_of_stream)

    def key(
        self, url: bytes, headers: list[tuple[bytes, bytes]], regular: Regular | None
    ) -> Key | None:
        """What equal requests have in common; None if this one has to be served by itself."""
        stream = url.startswith(_STREAMS)
        if stream:
            # What is `now` for one is not for the next.
            if b"live=long-poll" not in url or b"offset=now" in url:
                return None
        elif (
            b"live=true" not in url
            or b"live_sse" in url
            or not (regular or url.startswith(_SHAPES))
        ):
            return None
        origin = authorization = encoding = b""
        for name, value in headers:
            if name == b"origin":
                origin = value
            elif name == b"authorization":
                authorization = value
            elif name == b"accept-encoding" and stream:
                encoding = b"\n%b" % value
            elif name in _OTHERWISE:
                return None
        return url, origin, authorization + encoding if regular is None else regular.audience

    def join(
        self,
        key: Key,
        connection: Connection,
        headers: list[tuple[bytes, bytes]],
        regular: Regular | None,
    ) -> Follower | None:
        """Wait for the answer to an equal request; None if there is none, or one too many."""
        group = self._groups.get(key)
        if group is None:
            return None
        request_id = authorization = None
        for name, value in headers:
            if name == b"x-request-id" and REQUEST_ID.fullmatch(value):
                request_id = value
            elif name == b"authorization":
                authorization = value
        if request_id is None:
            request_id = b"%b%012x" % (self._prefix.encode(), next(self._numbers))
        follower = Follower(connection, group, headers, request_id)
        if regular is not None:
            follower.stay = self._regulars.stay(regular, follower.leave)
        else:
            environment: str | None = DEFAULT_ENVIRONMENT
            if group.is_of_stream:
                environment = self._regulars.environment_of(authorization)
            if environment is not None:
                follower.stay = self._regulars.stay_in(environment)
        if follower.stay is None:
            return None
        group.followers[follower] = None
        return follower

    def lead(self, key: Key, exchange: Exchange) -> None:
        """From now on equal requests wait for the answer to this one."""
        if key not in self._groups:
            exchange.group = self._groups[key] = Group(key)

    def close(self, exchange: Exchange) -> None:
        """The answer begins: nobody else may join."""
        if exchange.group is not None:
            self._groups.pop(exchange.group.key, None)

    def share(self, exchange: Exchange, head: bytes, request_id: bytes, body: bytes) -> None:
        """Give all the answer that was given to one. `head` ends with an empty line."""
        group = exchange.group
        if group is None or exchange.status not in _COMMON:
            return
        exchange.group = None
        before, separator, after = head.partition(_ID % request_id)
        if not separator:
            before, after = after, before
        large = len(body) > LARGE_BYTES
        if not large:
            after += body
        followers, group.followers = group.followers, {}
        if _NEWS in head:
            self.delivered += len(followers)
        elif exchange.status == 200 and _MESSAGES in head:
            self.delivered_of_streams += len(followers)
        for follower in followers:
            connection = follower.connection
            follower.release()
            follower.keep_alive &= exchange.keep_alive
            connection.write(b"%b%b%b" % (before, _ID % follower.request_id, after))
            if large:
                connection.write(body)
            connection.server.answered(exchange, connection.client)
            connection.answered(follower)

    def part(self, exchange: Exchange) -> None:
        """There is no answer that could be shared."""
        group, exchange.group = exchange.group, None
        if group is None:
            return
        if self._groups.get(group.key) is group:
            del self._groups[group.key]
        followers, group.followers = group.followers, {}
        if exchange.disconnected and followers:
            # Its client is gone: the next one is served in its place.
            first = next(iter(followers))
            del followers[first]
            group.followers = followers
            self._groups[group.key] = group
            first.release()
            first.connection.serve(first, group)
            return
        for follower in followers:
            follower.release()
            follower.connection.serve(follower, None)
