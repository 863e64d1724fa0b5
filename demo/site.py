"""The page at `/`: a handful of files, all named here, so that no request reaches another one."""

from __future__ import annotations

import re
from pathlib import Path

from starlette.requests import Request
from starlette.responses import FileResponse, HTMLResponse, PlainTextResponse, Response
from starlette.routing import BaseRoute, Route

_FOLDER = Path(__file__).parent
_PAGE = _FOLDER / "page"
_MODULES = _FOLDER / "node_modules"
_PAGE_FILES = {
    "page.css": "text/css",
    "page.js": "text/javascript",
    "detail.js": "text/javascript",
    "elements.js": "text/javascript",
    "follow.js": "text/javascript",
    "runs.js": "text/javascript",
    "favicon.svg": "image/svg+xml",
}
# The only package that the page imports carries its own dependencies inside its modules.
_CLIENT = "@electric-sql/client/dist"
_CLIENT_MODULE = re.compile(re.escape(_CLIENT) + r"/[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*\.mjs(\.map)?")
# A browser asks again each time: the files change with the checkout, and they are near.
_HEADERS = {"cache-control": "no-cache", "x-content-type-options": "nosniff"}
_NOT_INSTALLED = """<!doctype html>
<html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>pgtide</title>
<style>:root{color-scheme:light dark;font:1rem/1.5 system-ui;padding:10vh 8vw}</style>
<h1>pgtide is running</h1>
<p>The shape API answers under <code>/v1/shape</code>. This page shows live runs once the
JavaScript client is installed: run <code>make run</code> in a checkout of pgtide, or
<code>npm ci</code> in its folder <code>demo</code>, then load this page again.</p>
</html>
"""


def demo_routes(modules: Path = _MODULES) -> list[BaseRoute]:
    """Routes of the page `/` and of the files that it loads, all below `/demo/`.

    `modules` is the folder into which npm installed the page's packages.
    """

    async def index(_request: Request) -> Response:
        if not (modules / _CLIENT / "index.mjs").is_file():
            return HTMLResponse(_NOT_INSTALLED, 503, _HEADERS)
        return FileResponse(_PAGE / "index.html", headers=_HEADERS)

    async def module(request: Request) -> Response:
        path: str = request.path_params["path"]
        if _CLIENT_MODULE.fullmatch(path) is None or not (modules / path).is_file():
            return _not_found()
        media_type = "application/json" if path.endswith(".map") else "text/javascript"
        return FileResponse(modules / path, headers=_HEADERS, media_type=media_type)

    return [
        Route("/", index),
        Route("/demo/page/{name}", _page_file),
        Route("/demo/modules/{path:path}", module),
    ]


async def _page_file(request: Request) -> Response:
    name: str = request.path_params["name"]
    media_type = _PAGE_FILES.get(name)
    if media_type is None:
        return _not_found()
    return FileResponse(_PAGE / name, headers=_HEADERS, media_type=media_type)


def _not_found() -> Response:
    return PlainTextResponse("Not found", 404, _HEADERS)
