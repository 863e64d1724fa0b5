"""How parameters are written, and what that means."""

from __future__ import annotations

import http.client
import json
import re
from typing import Any
from urllib.parse import urlsplit

import pytest
from follower import ask
from serving import Serving
from tables import Tables


@pytest.fixture(scope="module")
def items(tables: Tables) -> str:
    """`id` and `label`; a label for each of the characters that mean something in a URL."""
    name = tables.make('id int primary key, label text, "Odd, Name" text')
    tables.run(
        f"insert into {name} values (1, 'one', 'x'), (2, 'a&b=c', 'x'), (3, '50% + é', 'x'),"
        f" (4, '', 'x'), (5, ' ', 'x'), (6, null, 'x')"
    )
    return name


def ids(server: Serving, query: str) -> list[str] | dict[str, Any]:
    """The rows of the first answer; what is wrong if it is refused. The query goes out as it is."""
    connection = http.client.HTTPConnection(urlsplit(server.url).netloc, timeout=20)
    connection.request("GET", f"/v1/shape?{query}")
    response = connection.getresponse()
    body = json.loads(response.read())
    connection.close()
    if response.status != 200:
        assert response.status == 400, body
        return body["errors"]
    return [row["value"]["id"] for row in body if "value" in row]


ALL = ["1", "2", "3", "4", "5", "6"]


@pytest.mark.parametrize(
    ("query", "found"),
    [
        # in any order, and whatever else there is
        ("table={t}&offset=-1", ALL),
        ("offset=-1&table={t}", ALL),
        ("&&offset=-1&&table={t}&", ALL),
        ("table={t}&offset=-1&expired_handle=1-1&cache-buster=x&user[]=1&user[a]=b&=&x", ALL),
        ("table={t}&offset=-1&live_ssee=true&Live=true&subset_where=false", ALL),
        ("table={t}&offset=-1&experimental_compaction=true", ALL),
        (
            "table={t}&offset=-1&experimental_compaction=x",
            {"experimental_compaction": ["is invalid"]},
        ),
        # the last of several
        ("table=nowhere&offset=x&table={t}&offset=-1", ALL),
        ("table={t}&offset=-1&where=id=1&where=id=2", ["2"]),
        ("table={t}&offset=-1&where=id=$1&params[1]=1&params[1]=3", ["3"]),
        # encoded or not
        ("table={t}&offset=-1&where=id%3D1", ["1"]),
        ("table={t}&offset=-1&where=id+%3d+1", ["1"]),
        ("t%61ble={t}&%6fffset=%2d1&where=id=2", ["2"]),
        ("table=%22{t}%22&offset=-1&where=%28id%29%20=%202", ["2"]),
        ("table={t}&offset=-1&where=label=%27a%26b%3dc%27", ["2"]),
        ("table={t}&offset=-1&where=label=%27a%26b=c%27", ["2"]),
        ("table={t}&offset=-1&where=label=%2750%25+%2b+%C3%A9%27", ["3"]),
        ("table={t}&offset=-1&where=label=$1&params[1]=50%25+%2B+%c3%a9", ["3"]),
        ("table={t}&offset=-1&where=label=$1&params%5b1%5D=one", ["1"]),
        ("table={t}&offset=-1&columns=%22id%22%2C%22Odd%2C%20Name%22", ALL),
        # blank: absent, but for the values of a filter
        ("table={t}&offset=-1&where=&columns=&replica=&log=&handle=&cursor=", ALL),
        ("table={t}&offset=-1&where=%20%09&columns=+&replica=%20", ALL),
        ("table={t}&offset=-1&where=label=$1&params[1]=", ["4"]),
        ("table={t}&offset=-1&where=label=$1&params[1]=%20", ["5"]),
        ("table=&offset=-1", {"table": ["can't be blank"]}),
        ("table={t}&offset=", {"offset": ["can't be blank"]}),
        ("table={t}&offset=%20", {"offset": ["can't be blank"]}),
        ("table={t}&offset=0_0&handle=+", {"handle": ["can't be blank when offset != -1"]}),
        # flags: there, and not "false"
        ("table={t}&offset=-1&live=false", ALL),
        ("table={t}&offset=-1&live=false&live_sse=false&experimental_live_sse=false", ALL),
        ("table={t}&offset=-1&live", {"live": ["can't be true when offset == -1"]}),
        ("table={t}&offset=-1&live=0", {"live": ["can't be true when offset == -1"]}),
        ("table={t}&offset=-1&live=FALSE", {"live": ["can't be true when offset == -1"]}),
        ("table={t}&offset=now&live=", {"live": ["can't be true when offset is 'now'"]}),
        (
            "table={t}&offset=-1&live=false&live_sse",
            {"live_sse": ["can't be true unless live is also true"]},
        ),
        # the names of values
        (
            "table={t}&offset=-1&where=id=1&params[x]=1",
            {"params": ["Parameters can only use numbers as keys"]},
        ),
        (
            "table={t}&offset=-1&where=id=1&params[]=1",
            {"params": ["Parameters can only use numbers as keys"]},
        ),
        (
            "table={t}&offset=-1&where=id=$1&params[1]=1&params[1.0]=1",
            {"params": ["Parameters can only use numbers as keys"]},
        ),
        (
            "table={t}&offset=-1&where=id=$2&params[2]=1",
            {"params": ["Parameters must be numbered sequentially, starting from 1"]},
        ),
        ("table={t}&offset=-1&params=1", {"params": ["is invalid"]}),
        ("table={t}&offset=-1&subset__params=x&subset__where=true", None),
        # what looks like SQL or like nothing
        ("table={t}&offset=-1&where=label=$1&params[1]=%ff%fe", None),
        ("table={t}&offset=-1&user=%ff", None),
        ("table={t}&offset=-1&where=%00", None),
        ("table={t}&offset=-1&where=label=%27%00%27", None),
        ("table={t}&offset=-1&where=%zz", None),
        ("table=%00&offset=-1", None),
        ("table=%22a%00b%22&offset=-1", None),
        ("table={t}&offset=-1&columns=id,%22a%00%22", None),
        ("table={t};select&offset=-1", None),
    ],
)
def test_query(
    server: Serving, items: str, query: str, found: list[str] | dict[str, Any] | None
) -> None:
    result = ids(server, query.format(t=items))
    if found is None:
        assert isinstance(result, dict), "it was not refused"
    else:
        assert result == found


@pytest.mark.parametrize(
    "handle", ["%00", "9" * 5000, "-1", "0-0", "1-1-1", "%F0%9F%98%80", "1e3-1", "+1-1", " 1-1"]
)
def test_no_handle_of_ours(server: Serving, items: str, handle: str) -> None:
    connection = http.client.HTTPConnection(urlsplit(server.url).netloc, timeout=20)
    connection.request("GET", f"/v1/shape?table={items}&offset=0_0&handle={handle.strip()}")
    response = connection.getresponse()
    assert response.status == 409
    assert response.read() == b'[{"headers":{"control":"must-refetch"}}]'
    connection.close()


@pytest.mark.parametrize("cursor", ["", "x", "-1", "1.5", "9" * 5000, "%00", "²"])
def test_no_cursor_of_ours(brief: Serving, brief_tables: Tables, cursor: str) -> None:
    name = brief_tables.make("id int primary key")
    handle = ask(brief.url, table=name, offset=-1).handle
    brief_tables.run(f"insert into {name} values (1)")
    given: dict[str, Any] = {"table": name, "handle": handle, "offset": "0_0", "live": True}
    answer = ask(brief.url, cursor=cursor, **given)
    assert answer.status == 200
    assert answer.headers["electric-cursor"].isdigit()


@pytest.mark.parametrize(
    ("offset", "status"),
    [
        ("0_0", 200),
        ("0_7", 200),
        ("0_inf", 200),
        ("00_000", 200),
        ("{lsn}_{index}", 200),
        ("0{lsn}_0{index}", 200),
        ("{lsn}_0", 200),
        ("{lsn}_inf", 200),
        ("{lsn}_999999", 200),
        ("-1_0", 200),
        ("0_-1", 400),
        ("-1_-1", 400),
        ("-0_0", 400),
        ("{lsn}_-2", 400),
        ("-{lsn}_0", 400),
        ("{lsn}", 400),
        ("{lsn}_", 400),
        ("_0", 400),
        ("{lsn}_0_0", 400),
        ("{lsn}.0_0", 400),
        ("0x1_0", 400),
        ("1e3_0", 400),
        ("{lsn}_INF", 400),
        ("inf_0", 400),
        ("Now", 400),
        ("18446744073709551616_0", 400),
    ],
)
def test_offsets(brief: Serving, changed: tuple[str, str, str], offset: str, status: int) -> None:
    name, handle, last = changed
    lsn, index = last.split("_")
    text = offset.format(lsn=lsn, index=index)
    answer = ask(brief.url, table=name, offset=text, handle=handle)
    assert answer.status == status, answer.text
    if status == 400:
        assert answer.error["errors"] == {"offset": ["has invalid format"]}
    elif text == "-1_0":
        assert answer.offset == "0_0"
    elif text.startswith(("0_", "00_")):
        assert len(answer.changes) == 1
    else:
        # At (lsn, 0) the change is still to come.
        assert len(answer.changes) == (text == f"{lsn}_0")
        assert answer.up_to_date
        assert re.fullmatch(r"\d+_\d{1,6}", answer.offset)


@pytest.fixture(scope="module")
def changed(brief: Serving, brief_tables: Tables) -> tuple[str, str, str]:
    """A table with a change in its log: name, handle, and the offset of the change."""
    name = brief_tables.make("id int primary key")
    handle = ask(brief.url, table=name, offset=-1).handle
    brief_tables.run(f"insert into {name} values (1)")
    answer = ask(brief.url, table=name, offset="0_0", handle=handle, live=True)
    assert len(answer.changes) == 1
    return name, handle, answer.offset
