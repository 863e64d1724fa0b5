"""The demo page's files: what is served, as what, and what is not."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest
from starlette.applications import Starlette

from demo.site import demo_routes

PAGE = Path(__file__).resolve().parents[2] / "demo" / "page"
MODULE = "/demo/modules/@electric-sql/client/dist/index.mjs"


@pytest.fixture
def modules(tmp_path: Path) -> Path:
    """A folder as npm leaves it, with something in it that no page needs."""
    folder = tmp_path / "node_modules"
    dist = folder / "@electric-sql/client/dist"
    dist.mkdir(parents=True)
    (dist / "index.mjs").write_text("export * from './chunk-A1.mjs'\n")
    (dist / "chunk-A1.mjs").write_text("export const one = 1\n")
    (dist / "chunk-A1.mjs.map").write_text("{}")
    (dist / "secret.txt").write_text("secret")
    (folder / "@electric-sql/client/package.json").write_text("{}")
    (tmp_path / "outside.mjs").write_text("outside")
    return folder


def client_of(modules: Path) -> httpx.AsyncClient:
    app = Starlette(routes=demo_routes(modules))
    return httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://demo")


@pytest.fixture
async def client(modules: Path) -> AsyncIterator[httpx.AsyncClient]:
    async with client_of(modules) as client:
        yield client


async def test_the_page_and_every_file_that_it_names_are_served(client: httpx.AsyncClient) -> None:
    page = await client.get("/")
    assert page.status_code == 200
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    paths = set(re.findall(r'"(/demo/[^"]+)"', page.text))
    assert {"/demo/page/page.js", "/demo/page/page.css", MODULE} <= paths
    for path in paths:
        assert (await client.get(path)).status_code == 200, path


async def test_every_file_of_the_page_is_served_as_what_it_is(client: httpx.AsyncClient) -> None:
    types = {
        ".js": "text/javascript; charset=utf-8",
        ".css": "text/css; charset=utf-8",
        ".svg": "image/svg+xml",
    }
    files = [path for path in PAGE.iterdir() if path.name != "index.html"]
    assert len(files) > 2
    for path in files:
        response = await client.get(f"/demo/page/{path.name}")
        assert response.headers["content-type"] == types[path.suffix], path
        assert response.content == path.read_bytes()


async def test_modules_import_each_other_by_paths_that_are_served(
    client: httpx.AsyncClient,
) -> None:
    for path in PAGE.glob("*.js"):
        for name in re.findall(r'from "(\.[^"]+)"', path.read_text()):
            assert (await client.get(f"/demo/page/{name}")).status_code == 200, (path, name)


async def test_modules_of_the_client_are_served_as_javascript(client: httpx.AsyncClient) -> None:
    for name in ("index.mjs", "chunk-A1.mjs"):
        response = await client.get(f"/demo/modules/@electric-sql/client/dist/{name}")
        assert response.headers["content-type"] == "text/javascript; charset=utf-8"
        assert response.text.startswith("export")


@pytest.mark.parametrize(
    "path",
    [
        "/demo/page/index.html",
        "/demo/page/nothing.js",
        "/demo/page/..%2fsite.py",
        "/demo/page/../site.py",
        "/demo/modules/",
        "/demo/modules/@electric-sql/client/package.json",
        "/demo/modules/@electric-sql/client/dist/secret.txt",
        "/demo/modules/@electric-sql/client/dist/nothing.mjs",
        "/demo/modules/@electric-sql/client/dist/..%2f..%2f..%2f..%2foutside.mjs",
        "/demo/modules/@electric-sql/client/dist/%2e%2e/%2e%2e/%2e%2e/%2e%2e/outside.mjs",
        "/demo/modules/../outside.mjs",
        "/demo/site.py",
    ],
)
async def test_nothing_else_is_served(client: httpx.AsyncClient, path: str) -> None:
    assert (await client.get(path)).status_code == 404


async def test_without_the_packages_the_page_says_what_installs_them(tmp_path: Path) -> None:
    async with client_of(tmp_path) as client:
        page = await client.get("/")
    assert page.status_code == 503
    assert "make run" in page.text
    assert "npm ci" in page.text
