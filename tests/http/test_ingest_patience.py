"""Requests that write lines may take their time; others may not."""

from __future__ import annotations

import time
from collections.abc import Generator
from contextlib import closing
from pathlib import Path

import httpx
import pytest
from back_ends import SETTINGS, BackEnd
from keyed_serving import keyed_serving
from raw import connected
from stream_reader import STREAMS, reading
from tables import Tables

READ_SECONDS = 1.0


@pytest.fixture(scope="module")
def hasty(server_url: str, tmp_path_factory: pytest.TempPathFactory) -> Generator[BackEnd]:
    """One node at which requests have to arrive within a second."""
    folder: Path = tmp_path_factory.mktemp("pgtide-hasty")
    settings = folder / "pgtide.toml"
    settings.write_text(SETTINGS)
    with (
        keyed_serving(
            server_url,
            folder / "pgtide",
            config_file=settings,
            nodes=1,
            tcp_read_timeout=READ_SECONDS,
        ) as keyed,
        closing(Tables(keyed.database_url)) as tables,
        httpx.Client(timeout=30) as http,
    ):
        yield BackEnd(keyed.serving.url, tables, http)


def head(run: str, credential: str) -> bytes:
    lines = (
        f"POST {STREAMS}/{run}/self/ai HTTP/1.1",
        f"authorization: Bearer {credential}",
        "x-client-id: c",
        "transfer-encoding: chunked",
    )
    return "\r\n".join((*lines, "", "")).encode()


def test_who_writes_lines_may_be_silent_for_a_while(hasty: BackEnd) -> None:
    run = hasty.run()
    with connected(hasty.url) as writer, connected(hasty.url) as stranger:
        writer.send(head(run, hasty.key))
        stranger.send(head(run, "x"))
        assert stranger.answer().status == 401
        begin = time.monotonic()
        with reading(hasty, f"{run}/ai") as reader:
            writer.send(b'4\r\n"a"\n\r\n')
            assert reader.messages(1) == ["a"]
            # Its body is not waited for any longer than others.
            assert stranger.closes_within(4 * READ_SECONDS)
            assert time.monotonic() - begin > READ_SECONDS / 2
            time.sleep(max(0, begin + 2 * READ_SECONDS - time.monotonic()))
            writer.send(b'4\r\n"b"\n\r\n0\r\n\r\n')
            assert reader.messages(1) == ["b"]
        assert writer.answer().status == 200
