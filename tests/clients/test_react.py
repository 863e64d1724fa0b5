"""useShape of @electric-sql/react in a headless Chromium; the page is of another origin than pgtide."""

from __future__ import annotations

import json
import secrets
from collections.abc import Generator
from urllib.parse import urlencode

import psycopg
import pytest
from browser import Browser
from electric_reader import ElectricReader
from serving import Serving
from static_page import served

TRANSPORTS = pytest.mark.parametrize("transport", [{}, {"sse": ""}], ids=["long-poll", "sse"])
REQUESTS = "performance.getEntriesByType('resource').filter(e => e.name.includes('/v1/shape'))"
FIRST = f"{REQUESTS}.filter(e => e.name.includes('offset=-1')).length"


@pytest.fixture(scope="module")
def page_url(node: str, tmp_path_factory: pytest.TempPathFactory) -> Generator[str]:
    """Where the page is served, without a slash at the end."""
    with served(node, "page", tmp_path_factory.mktemp("page"), "development") as url:
        yield url


class Items:
    """A table that the page shows."""

    def __init__(self, db: psycopg.Connection) -> None:
        self._db = db
        self.name = f"items_{secrets.token_hex(4)}"
        self.run("create table items (id int primary key, title text not null)")
        self.run("insert into items values (1, 'one'), (2, 'two')")

    def run(self, statement: str) -> None:
        self._db.execute(statement.replace("items", self.name).encode())


@pytest.fixture
def items(db: psycopg.Connection) -> Items:
    return Items(db)


def open_page(browser: Browser, page_url: str, server: Serving, items: Items, **query: str) -> None:
    given = {"shapes": f"{server.url}/v1/shape", "table": items.name, **query}
    browser.open(f"{page_url}/?{urlencode(given)}")


def shows(browser: Browser, rows: str, *names: str) -> None:
    """Wait until each of these lists shows these rows."""
    for name in names or ("one", "two"):
        browser.until(f"rows({name!r}) === {json.dumps(rows)}")


@TRANSPORTS
def test_two_lists_of_one_shape(
    browser: Browser, page_url: str, server: Serving, items: Items, transport: dict[str, str]
) -> None:
    open_page(browser, page_url, server, items, **transport)
    shows(browser, "1 one, 2 two")
    items.run("insert into items values (3, 'three')")
    items.run("update items set title = 'changed' where id = 1")
    items.run("delete from items where id = 2")
    shows(browser, "1 changed, 3 three")
    assert browser.run(FIRST) == 1
    assert browser.close() == []


@TRANSPORTS
def test_the_server_goes_and_comes_back(
    browser: Browser, page_url: str, server: Serving, items: Items, transport: dict[str, str]
) -> None:
    open_page(browser, page_url, server, items, **transport)
    shows(browser, "1 one, 2 two")
    server.stop()
    items.run("insert into items values (3, 'meanwhile')")
    assert browser.run("rows('one')") == "1 one, 2 two"
    server.start()
    shows(browser, "1 one, 2 two, 3 meanwhile")
    items.run("update items set title = 'later' where id = 3")
    shows(browser, "1 one, 2 two, 3 later")
    assert browser.run(FIRST) == 1, "the page began anew"


def test_a_hidden_page_waits(
    browser: Browser, page_url: str, server: Serving, items: Items, reader: ElectricReader
) -> None:
    hide = "Object.defineProperty(document, 'hidden', {value: %s, configurable: true})"
    tell = "document.dispatchEvent(new Event('visibilitychange'))"
    open_page(browser, page_url, server, items)
    reader.follow("another", server.url, params={"table": items.name})
    shows(browser, "1 one, 2 two")
    browser.run(f"{hide % 'true'}, {tell}")
    items.run("insert into items values (3, 'unseen')")
    titles = {1: "one", 2: "two", 3: "unseen"}
    key = f'"public"."{items.name}"/"{{}}"'
    reader.until("another", {key.format(n): {"id": n, "title": t} for n, t in titles.items()})
    assert browser.run("rows('one')") == "1 one, 2 two"
    browser.run(f"{hide % 'false'}, {tell}")
    shows(browser, "1 one, 2 two, 3 unseen")
    assert browser.run(FIRST) == 1
    assert browser.close() == []


def test_lists_go_and_come_back(
    browser: Browser, page_url: str, server: Serving, items: Items
) -> None:
    open_page(browser, page_url, server, items)
    shows(browser, "1 one, 2 two")
    browser.run("page.show(['two'])")
    browser.until("!document.querySelector('#one')")
    items.run("insert into items values (3, 'three')")
    shows(browser, "1 one, 2 two, 3 three", "two")
    browser.run("page.show([])")
    browser.until("!document.querySelector('#two')")
    items.run("insert into items values (4, 'four')")
    browser.run("page.show(['one'])")
    shows(browser, "1 one, 2 two, 3 three, 4 four", "one")
    assert browser.run(FIRST) == 1
    assert browser.close() == []


def test_another_filter_is_another_shape(
    browser: Browser, page_url: str, server: Serving, items: Items
) -> None:
    open_page(browser, page_url, server, items, where="id = 1")
    shows(browser, "1 one")
    browser.run("page.filter(\"title LIKE 'tw%'\")")
    shows(browser, "2 two")
    items.run("update items set title = 'twist' where id = 1")
    shows(browser, "1 twist, 2 two")
    assert browser.close() == []


def test_a_shape_that_ends(browser: Browser, page_url: str, server: Serving, items: Items) -> None:
    """The handle of the next one, in a 409's header, must be readable across origins."""
    open_page(browser, page_url, server, items)
    shows(browser, "1 one, 2 two")
    items.run("truncate items; insert into items values (5, 'new')")
    shows(browser, "5 new")
    # What the page noted about the old handle, and what the browser's cache has, must not mislead.
    items.run("insert into items values (6, 'newer')")
    browser.reload()
    shows(browser, "5 new, 6 newer")
    items.run("delete from items where id = 5")
    shows(browser, "6 newer")
    problems = browser.close()
    assert all("409" in problem for problem in problems), problems


def test_a_page_that_is_loaded_again(
    browser: Browser, page_url: str, server: Serving, items: Items
) -> None:
    """The browser's cache has an old first answer; what follows it is there nevertheless."""
    open_page(browser, page_url, server, items)
    shows(browser, "1 one, 2 two")
    for number in range(3, 6):
        items.run(f"insert into items values ({number}, 'new')")
        browser.reload()
        last = ", ".join(f"{each} new" for each in range(3, number + 1))
        shows(browser, f"1 one, 2 two, {last}")
    assert browser.close() == []


def test_an_error_is_told(browser: Browser, page_url: str, server: Serving, items: Items) -> None:
    open_page(browser, page_url, server, items, where="nothing = 1")
    error = browser.until("document.querySelector('#one')?.dataset.error")
    assert json.loads(error)["message"] == "Invalid request"
    assert list(json.loads(error)["errors"]) == ["where"]


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_a_subset_with_headers_of_its_own(
    browser: Browser, page_url: str, server: Serving, items: Items, method: str
) -> None:
    """Such a request is preceded by a question of the browser's, whether it may."""
    open_page(browser, page_url, server, items)
    browser.until("window.page")
    assert browser.run(f"page.preload('{method}')") == ["two"]
    assert browser.close() == []
