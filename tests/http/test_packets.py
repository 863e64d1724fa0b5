"""Packets: uploaded and downloaded at addresses that only their owner has."""

from __future__ import annotations

from typing import Any
from urllib.parse import parse_qs, quote, urlsplit
from uuid import uuid4

import pytest
from back_ends import OTHER_KEY, BackEnd

JSON = {"content-type": "application/super+json"}


def upload(back_end: BackEnd, data: bytes, name: str = "trigger/packet_1/payload.json") -> str:
    """The path of a new packet."""
    offer = back_end.ask("PUT", f"/api/v2/packets/{quote(name, safe='')}")
    assert offer.status_code == 200, offer.text
    answer = back_end.ask("PUT", offer.json()["presignedUrl"], data, JSON)
    assert answer.status_code == 200, answer.text
    return offer.json()["storagePath"]


def of_run(back_end: BackEnd, run: str, field: str = "payload") -> Any:
    return back_end.ask("GET", f"/api/v1/runs/{run}/packets/{field}")


def test_up_and_down(back_end: BackEnd) -> None:
    data = '{"json":{"é":"…"}}'.encode()
    path = upload(back_end, data)
    assert path.endswith("/trigger/packet_1/payload.json")
    offer = back_end.ask("GET", f"/api/v1/packets/{quote(path, safe='')}").json()
    assert set(offer) == {"presignedUrl"}
    answer = back_end.ask("GET", offer["presignedUrl"], headers={"origin": "https://app"})
    assert (answer.content, answer.headers["content-type"]) == (data, JSON["content-type"])
    assert answer.headers["access-control-allow-origin"] in ("*", "https://app")
    # Nothing that was uploaded runs as a page of this origin.
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert "sandbox" in answer.headers["content-security-policy"]
    head = back_end.ask("HEAD", offer["presignedUrl"])
    assert (head.status_code, head.headers["content-length"]) == (200, str(len(data)))


def test_an_upload_may_be_repeated(back_end: BackEnd) -> None:
    url = back_end.ask("PUT", "/api/v2/packets/p").json()
    for data in (b"1", b"1"):
        assert back_end.ask("PUT", url["presignedUrl"], data, JSON).status_code == 200
    found = back_end.db.run("select data from pgtide.packets where path = %s", url["storagePath"])
    assert found == [(b"1",)]


def test_the_largest(back_end: BackEnd) -> None:
    data = bytes(range(256)) * (10 << 12)
    path = upload(back_end, data)
    offer = back_end.ask("GET", f"/api/v1/packets/{quote(path, safe='')}").json()
    assert back_end.ask("GET", offer["presignedUrl"]).content == data
    url = back_end.ask("PUT", "/api/v2/packets/p").json()["presignedUrl"]
    answer = back_end.ask("PUT", url, data + b"x", JSON)
    assert answer.status_code == 413
    assert answer.headers["access-control-allow-origin"] == "*"


def test_a_subscriber_of_the_run_gets_its_packets(back_end: BackEnd) -> None:
    path = upload(back_end, b'{"json":1}')
    stored = "application/store"
    run = back_end.run(payload=path, payload_type=stored, tags=["mine"], output=path)
    for scope in (f"read:runs:{run}", "read:tags:mine", "read:tasks:t", "read:runs"):
        answer = of_run(back_end.token(scope), run)
        assert answer.status_code == 200, scope
        assert back_end.ask("GET", answer.json()["presignedUrl"]).content == b'{"json":1}'
    for scope in ("read:runs:other", "write:runs", "read:tags:yours"):
        assert of_run(back_end.token(scope), run).status_code == 403
    # What is no packet, or is hidden from the token.
    assert of_run(back_end, run, "output").status_code == 404
    assert of_run(back_end, run, "error").status_code == 404
    hidden = back_end.token(f"read:runs:{run}", realtime={"skipColumns": ["payload"]})
    assert of_run(hidden, run).status_code == 404
    assert of_run(back_end.with_key(OTHER_KEY), run).status_code == 404
    assert of_run(back_end.token("read:runs"), f"run_{uuid4().hex}").status_code == 404
    # Without a run only back ends are told where a packet is.
    browser = back_end.token("read:runs", "read:all", "write:all")
    for method, version in (("GET", 1), ("PUT", 1), ("PUT", 2)):
        name = quote(path, safe="")
        assert browser.ask(method, f"/api/v{version}/packets/{name}").status_code == 401


def test_of_another_environment(back_end: BackEnd) -> None:
    path = upload(back_end, b"secret")
    other = back_end.with_key(OTHER_KEY)
    offer = other.ask("GET", f"/api/v1/packets/{quote(path, safe='')}").json()
    assert back_end.ask("GET", offer["presignedUrl"]).status_code == 404
    # Nor by naming this environment in that address.
    url = offer["presignedUrl"].replace("/packet-data/other/", "/packet-data/default/")
    assert url != offer["presignedUrl"]
    assert back_end.ask("GET", url).status_code == 403


def test_addresses_hold_for_one_packet_one_method_and_a_while(back_end: BackEnd) -> None:
    offer: dict[str, str] = back_end.ask("PUT", "/api/v2/packets/a").json()
    url = offer["presignedUrl"]
    other: dict[str, str] = back_end.ask("PUT", "/api/v2/packets/b").json()
    assert back_end.ask("PUT", url, b"1", JSON).status_code == 200
    expires = parse_qs(urlsplit(url).query)["expires"][0]
    wrong = [
        ("GET", url),
        (
            "PUT",
            url.replace(quote(offer["storagePath"], safe=""), quote(other["storagePath"], safe="")),
        ),
        ("PUT", url.replace(expires, str(int(expires) + 1))),
        ("PUT", url.replace(expires, "9" * 12)),
        ("PUT", url.partition("?")[0]),
        ("PUT", url[:-2]),
        ("PUT", f"{url}é"),
    ]
    for method, address in wrong:
        body = b"2" if method == "PUT" else None
        assert back_end.ask(method, address, body).status_code == 403, address
    found = back_end.db.run("select data from pgtide.packets where path = %s", offer["storagePath"])
    assert found == [(b"1",)]


def test_paths_cannot_be_guessed(back_end: BackEnd) -> None:
    """Who may start a run may say where its payload is, and then read it."""
    name = "trigger/packet_7/payload.json"
    paths = {upload(back_end, b"1", name) for _ in range(2)}
    assert len(paths) == 2
    assert all(len(path.removesuffix(f"/{name}")) == 32 for path in paths)


@pytest.mark.parametrize("name", ["a/../b", "ünï", "a b", "%2e%2e", "x" * 1024])
def test_names(back_end: BackEnd, name: str) -> None:
    path = upload(back_end, b"1", name)
    assert path.endswith(f"/{name}")


def test_a_name_that_is_too_long(back_end: BackEnd) -> None:
    assert back_end.ask("PUT", f"/api/v2/packets/{'x' * 1025}").status_code == 400
