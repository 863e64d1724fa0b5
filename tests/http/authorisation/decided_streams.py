"""What may be done with what on the routes of streams: written down from the protocol."""

from __future__ import annotations

from decided_route import KEYS, SCOPES, Decided
from decided_scopes import NOTHING, READS_NO_RUN, READS_RUN, beside, ones
from guarded_server import BELOW, CHANNEL, DELAYED, RUN, SESSION

_STREAMS = "/realtime/v1/streams"
_SESSIONS = "/realtime/v1/sessions"
_TARGETS = ("self", "parent", "root")

_AT_ONCE = {"x-peek-settled": "1", "timeout-seconds": "1"}
"""Event streams of sessions would go on for ever."""

_OUT = (
    *ones(
        *(f"read:sessions:{SESSION}", f"read:sessions:{SESSION}:out", "read:sessions"),
        *(f"read:streams:sessions/{SESSION}/out", f"read:streams:sessions/{SESSION}/"),
        *("read:all", "*:all", "admin"),
    ),
)
_NOT_OUT = (
    *beside("read", "sessions", SESSION),
    *ones(
        *(f"write:sessions:{SESSION}", f"read:sessions:{SESSION}:in", "read:sessions:chat"),
        *(f"read:sessions:{SESSION}:channels:out", f"read:runs:{SESSION}", "read:runs"),
        *(f"read:streams:sessions/{SESSION}", f"read:streams:sessions/{SESSION}/in"),
    ),
    *NOTHING,
)
_CHANNEL_OUT = ones(
    *(f"read:sessions:{SESSION}", f"read:sessions:{SESSION}:channels:{CHANNEL}"),
    *(f"read:sessions:{SESSION}:channels:{CHANNEL}:out", "read:sessions", "admin"),
)
_NOT_CHANNEL_OUT = (
    *_NOT_OUT,
    *ones(
        *(f"read:sessions:{SESSION}:out", f"read:sessions:{SESSION}:channels:{CHANNEL}:in"),
        *(f"read:sessions:{SESSION}:channels", f"read:sessions:{SESSION}:channels:other"),
        f"write:sessions:{SESSION}:channels:{CHANNEL}",
    ),
)
_FOR_BACK_ENDS = ones("read:streams", "read:all", "*:all", "admin")
_NOT_FOR_TOKENS = (
    *ones(
        *(f"read:sessions:{SESSION}", "read:sessions", f"read:sessions:{SESSION}:in"),
        *(f"write:sessions:{SESSION}:in", f"read:streams:sessions/{SESSION}/out", "read:runs"),
    ),
    *NOTHING,
)
_IN = ones(
    *(f"write:sessions:{SESSION}", f"write:sessions:{SESSION}:in", "write:sessions"),
    *("write:all", "*:all", "admin"),
)
_NOT_IN = (
    *beside("write", "sessions", SESSION),
    *ones(
        *(f"read:sessions:{SESSION}", f"write:sessions:{SESSION}:out", "write:sessions:chat"),
        *(f"write:inputStreams:{SESSION}", f"write:runs:{SESSION}", "write:runs"),
    ),
    *NOTHING,
)
_READS_STREAM = ones(
    *("read:streams", f"read:streams:runs/{RUN}/", "read:streams:runs/"),
)
_READS_NO_STREAM = (
    *READS_NO_RUN,
    *ones(
        *(f"read:streams:runs/{RUN}", "read:streams:runs", "read:streams:ai", "write:streams"),
        *(f"read:streams:runs/{DELAYED}/", f"read:streams:runs/{RUN}/other"),
    ),
    *NOTHING,
)

STREAMS_DECIDED: tuple[Decided, ...] = (
    Decided(
        *("GET", f"{_STREAMS}/{{run}}/{{key*}}", f"{_STREAMS}/{RUN}/a/i", SCOPES),
        granted=(*READS_RUN, *_READS_STREAM, (f"read:streams:runs/{RUN}/a/i",)),
        denied=_READS_NO_STREAM,
    ),
    Decided(
        *("GET", f"{_STREAMS}/{{run}}/input/{{key*}}", f"{_STREAMS}/{RUN}/input/ai", SCOPES),
        granted=(*READS_RUN, *_READS_STREAM),
        denied=_READS_NO_STREAM,
    ),
    Decided(
        *("POST", f"{_STREAMS}/{{run}}/input/{{key*}}", f"{_STREAMS}/{DELAYED}/input/ai", SCOPES),
        body={"data": 1},
        granted=ones(
            *(f"write:inputStreams:{DELAYED}", "write:inputStreams", "write:all", "*:all"),
            "admin",
        ),
        denied=(
            *beside("write", "inputStreams", DELAYED),
            *ones(
                *(f"read:inputStreams:{DELAYED}", f"write:runs:{DELAYED}", "write:runs"),
                *(f"write:inputStreams:{RUN}", f"read:runs:{DELAYED}", "write:streams"),
            ),
            *NOTHING,
        ),
        foreign=(404, {"ok": False, "error": "Run not found"}),
    ),
    *(
        Decided(
            *("PUT", f"{_STREAMS}/{{run}}/{target}/{{key*}}", f"{_STREAMS}/{BELOW}/{target}/ai"),
            KEYS,
            status=202,
            foreign=(404, ...),
        )
        for target in _TARGETS
    ),
    *(
        Decided(
            *(
                "POST",
                f"{_STREAMS}/{{run}}/{target}/{{key*}}",
                f"{_STREAMS}/{BELOW}/{target}/{end}",
            ),
            KEYS,
            body="1\n",
            foreign=(404, ...),
        )
        for target in _TARGETS
        for end in ("ai", "ai/append")
    ),
    Decided(
        *("GET", f"{_SESSIONS}/{{session}}/{{io}}", f"{_SESSIONS}/{SESSION}/out", SCOPES),
        headers=_AT_ONCE,
        granted=_OUT,
        denied=_NOT_OUT,
        foreign=(200, ...),
    ),
    Decided(
        *("GET", f"{_SESSIONS}/{{session}}/{{io}}", f"{_SESSIONS}/{SESSION}/in", SCOPES),
        headers=_AT_ONCE,
        granted=_FOR_BACK_ENDS,
        denied=_NOT_FOR_TOKENS,
        foreign=(200, ...),
    ),
    Decided(
        *("GET", f"{_SESSIONS}/{{session}}/channels/{{channel}}/{{io}}"),
        *(f"{_SESSIONS}/{SESSION}/channels/{CHANNEL}/out", SCOPES),
        headers=_AT_ONCE,
        granted=_CHANNEL_OUT,
        denied=_NOT_CHANNEL_OUT,
        foreign=(200, ...),
    ),
    Decided(
        *("GET", f"{_SESSIONS}/{{session}}/{{io}}/records", f"{_SESSIONS}/{SESSION}/out/records"),
        SCOPES,
        granted=_OUT,
        denied=_NOT_OUT,
        foreign=(200, {"records": []}),
    ),
    Decided(
        *("GET", f"{_SESSIONS}/{{session}}/channels/{{channel}}/{{io}}/records"),
        *(f"{_SESSIONS}/{SESSION}/channels/{CHANNEL}/out/records", SCOPES),
        granted=_CHANNEL_OUT,
        denied=_NOT_CHANNEL_OUT,
        foreign=(200, {"records": []}),
    ),
    Decided(
        *("POST", f"{_SESSIONS}/{{session}}/{{io}}/append", f"{_SESSIONS}/{SESSION}/in/append"),
        SCOPES,
        body="hello",
        granted=_IN,
        denied=_NOT_IN,
        foreign=(200, {"ok": True}),
    ),
    Decided(
        *("POST", f"{_SESSIONS}/{{session}}/{{io}}/append", f"{_SESSIONS}/{SESSION}/out/append"),
        SCOPES,
        body="hello",
        granted=ones("write:streams", "write:all", "*:all", "admin"),
        denied=(*_NOT_IN, *_IN[:3], (f"write:sessions:{SESSION}:out",)),
        foreign=(200, {"ok": True}),
    ),
    Decided(
        *("POST", f"{_SESSIONS}/{{session}}/channels/{{channel}}/{{io}}/append"),
        *(f"{_SESSIONS}/{SESSION}/channels/{CHANNEL}/in/append", SCOPES),
        body="hello",
        granted=(
            *ones(f"write:sessions:{SESSION}", "write:sessions", "admin"),
            *ones(f"write:sessions:{SESSION}:channels:{CHANNEL}"),
            *ones(f"write:sessions:{SESSION}:channels:{CHANNEL}:in"),
        ),
        denied=(
            *_NOT_IN,
            *ones(f"write:sessions:{SESSION}:in", f"write:sessions:{SESSION}:channels:other"),
            *ones(f"write:sessions:{SESSION}:channels:{CHANNEL}:out"),
        ),
        foreign=(200, {"ok": True}),
    ),
)

TOLD = tuple(("HEAD", f"{_STREAMS}/{{run}}/{target}/{{key*}}") for target in _TARGETS)
"""How far a writer has come: HEAD without a GET."""
