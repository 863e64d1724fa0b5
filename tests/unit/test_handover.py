"""A listening socket goes from one process to the next, with the connections that wait in it."""

from __future__ import annotations

import os
import socket
import stat
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from engine.processes.handover import NAME, Handover, take_over
from engine.processes.listener import listen

HOST = "127.0.0.1"


@pytest.fixture
def door() -> Iterator[socket.socket]:
    with closing(listen(HOST, 0)) as door:
        yield door


def port_of(door: socket.socket) -> int:
    return int(door.getsockname()[1])


def test_waiting_connections_go_along(door: socket.socket, tmp_path: Path) -> None:
    with Handover(tmp_path, door):
        taken = take_over(tmp_path, HOST, port_of(door))
    assert taken is not None
    with closing(taken), closing(socket.create_connection((HOST, port_of(door)))) as client:
        # The first one stops without having accepted it.
        door.close()
        client.sendall(b"hello")
        accepted, _ = taken.accept()
        with closing(accepted):
            assert accepted.recv(5) == b"hello"


def test_only_for_the_same_address(door: socket.socket, tmp_path: Path) -> None:
    with Handover(tmp_path, door), closing(listen(HOST, 0)) as other:
        assert take_over(tmp_path, HOST, port_of(other)) is None
        assert take_over(tmp_path, "::1", port_of(door)) is None
        # Any free port is not the one that is taken.
        assert take_over(tmp_path, HOST, 0) is None
        assert take_over(tmp_path / "elsewhere", HOST, port_of(door)) is None


def test_nobody_else_may_ask(door: socket.socket, tmp_path: Path) -> None:
    with Handover(tmp_path, door):
        assert stat.S_IMODE(os.stat(tmp_path / NAME).st_mode) == 0o600
    assert not (tmp_path / NAME).exists()


def test_what_a_dead_one_left_behind(door: socket.socket, tmp_path: Path) -> None:
    with closing(socket.socket(socket.AF_UNIX)) as dead:
        dead.bind(str(tmp_path / NAME))
    assert take_over(tmp_path, HOST, port_of(door)) is None
    with Handover(tmp_path, door):
        taken = take_over(tmp_path, HOST, port_of(door))
        assert taken is not None
        taken.close()


def test_the_successor_offers_it_in_its_turn(door: socket.socket, tmp_path: Path) -> None:
    first = Handover(tmp_path, door)
    with first:
        second = take_over(tmp_path, HOST, port_of(door))
        assert second is not None
        later = Handover(tmp_path, second)
        later.__enter__()
    # The first one's end does not take away what the second offers.
    third = take_over(tmp_path, HOST, port_of(second))
    assert third is not None
    third.close()
    later.__exit__()
    second.close()


@pytest.mark.skipif(sys.platform != "linux", reason="a short way to a long path is Linux's")
def test_a_long_path(door: socket.socket, tmp_path: Path) -> None:
    folder = tmp_path / ("long" * 30)
    folder.mkdir()
    with Handover(folder, door):
        taken = take_over(folder, HOST, port_of(door))
        assert taken is not None
        taken.close()
