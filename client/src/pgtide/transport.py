"""What both faces do with httpx2."""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping
from functools import cache
from typing import Any

import httpx2

from pgtide.errors import ConnectionLostError
from pgtide.protocol.steps import CONNECT_SECONDS, Request

USER_AGENT = "pgtide-client-python/0.1.0"
IDLE_SECONDS = 30.0
"""After so long an unused connection is closed; servers close theirs after 60."""

_SECRET = re.compile(
    r"([?&](?:(?:api_)?secret|(?:access_)?token|api_key|password|sig|signature|seal"
    r"|x-amz-(?:signature|credential|security-token))=)[^&]*",
    re.IGNORECASE,
)


def limits() -> httpx2.Limits:
    """Each live request has a connection of its own, so their number has no limit."""
    return httpx2.Limits(keepalive_expiry=IDLE_SECONDS)


def build(
    client: httpx2.AsyncClient | httpx2.Client,
    base_url: str,
    request: Request,
    extensions: Mapping[str, Any] | None = None,
) -> httpx2.Request:
    path = request.path
    # A query that is part of the path stays as it is.
    query = httpx2.QueryParams(request.query) if request.query else None
    _hide_secrets()
    built = client.build_request(
        request.method,
        path if "://" in path else base_url + path,
        params=query,
        headers=[("user-agent", USER_AGENT), *request.headers],
        content=request.body,
        timeout=httpx2.Timeout(
            connect=CONNECT_SECONDS, read=request.read_seconds, write=30.0, pool=None
        ),
    )
    built.extensions.update(extensions or {})
    return built


def headers_of(response: httpx2.Response) -> dict[str, str]:
    return {name.lower(): value for name, value in response.headers.items()}


def lost(request: Request | None, error: Exception) -> ConnectionLostError:
    """The error for what happened to the connection; the words are the transport's."""
    what = str(error).strip() or type(error).__name__
    if isinstance(error, httpx2.ConnectError | httpx2.ConnectTimeout):
        url = error.request.url
        what += f". Is there a server at {url.scheme}://{url.netloc.decode()}?"
    return ConnectionLostError(f"{request or 'reading the answer'}: {what}")


@cache
def _hide_secrets() -> None:
    """httpx2 logs the URLs that it asks for."""
    logging.getLogger("httpx2").addFilter(_without_secrets)


def _without_secrets(record: logging.LogRecord) -> bool:
    if isinstance(record.args, tuple):
        record.args = tuple(
            _SECRET.sub(r"\1[hidden]", str(part)) if isinstance(part, httpx2.URL) else part
            for part in record.args
        )
    return True
