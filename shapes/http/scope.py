"""A request as ASGI describes it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

import httptools

if TYPE_CHECKING:
    from shapes.http.connection import Connection

_ASGI = {"version": "3.0", "spec_version": "2.3"}


def scope_of(
    connection: Connection,
    version: str,
    method: str,
    target: bytes,
    headers: list[tuple[bytes, bytes]],
) -> dict[str, Any]:
    """The scope of a request. Raises httptools.HttpParserError if `target` is no URL."""
    path, _, query = target.partition(b"?")
    if not path.startswith(b"/") or b"#" in target:
        url = httptools.parse_url(target)
        path, query = url.path or b"/", url.query or b""
    text = path.decode("utf-8", "replace")
    return {
        "type": "http",
        "asgi": _ASGI,
        "http_version": version,
        "method": method,
        "scheme": "http",
        "path": unquote(text) if "%" in text else text,
        "raw_path": path,
        "query_string": query,
        "root_path": "",
        "headers": headers,
        "client": connection.client,
        "server": connection.server.address,
    }
