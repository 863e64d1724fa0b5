"""Where clients reach this server: for addresses in answers."""

from __future__ import annotations

import re

from shapes.http.api.call import ApiError, Call

_HOST = re.compile(r"[A-Za-z0-9._-]+(:[0-9]{1,5})?|\[[0-9A-Fa-f:.]+\](:[0-9]{1,5})?")


def base_address(call: Call, public_url: str | None) -> str:
    """Without a slash at the end: `public_url`, or what the request was sent to.

    Raises ApiError (400) if that is nowhere.
    """
    if public_url is not None:
        return public_url.rstrip("/")
    host = call.header(b"host") or ""
    if not _HOST.fullmatch(host):
        raise ApiError(400, "the request has no valid Host header")
    forwarded = (call.header(b"x-forwarded-proto") or "").partition(",")[0].strip().lower()
    scheme = forwarded if forwarded in ("http", "https") else call.responder.scope["scheme"]
    return f"{scheme}://{host}"
