"""Addresses of packets: for one packet, one method, one environment, and for a while."""

from __future__ import annotations

from urllib.parse import parse_qs, unquote, urlsplit

import pytest

from engine.configuration.settings import Settings
from shapes.access.authority import Authority
from shapes.runs.packets import DOWNLOAD_SECONDS, PacketAddressError, PacketAddresses, new_path

KEY = "tr_prod_one-of-the-tests-0001"
NEXT_KEY = "tr_prod_one-of-the-tests-0002"


class Clock:
    now = 1e9

    def __call__(self) -> float:
        return self.now


def authority(*keys: str) -> Authority:
    return Authority(Settings(secret_keys=keys))


def parts(url: str) -> tuple[str, str, str, str]:
    """Environment, path, expiry and seal."""
    split = urlsplit(url)
    environment, path = split.path.split("/")[-2:]
    query = parse_qs(split.query)
    return unquote(environment), unquote(path), query["expires"][0], query["seal"][0]


def test_an_address_is_good_for_its_method_until_it_expires() -> None:
    clock = Clock()
    addresses = PacketAddresses(authority(KEY), clock)
    found = parts(addresses.download("http://h", "default", "a/b c"))
    assert found[:2] == ("default", "a/b c")
    addresses.check("GET", *found)
    addresses.check("HEAD", *found)
    with pytest.raises(PacketAddressError, match="not given out"):
        addresses.check("PUT", *found)
    clock.now += DOWNLOAD_SECONDS
    addresses.check("GET", *found)
    clock.now += 1
    with pytest.raises(PacketAddressError, match="expired"):
        addresses.check("GET", *found)


def test_an_address_outlives_the_rotation_of_keys() -> None:
    found = parts(PacketAddresses(authority(KEY)).upload("http://h", "default", "p"))
    PacketAddresses(authority(NEXT_KEY, KEY)).check("PUT", *found)
    with pytest.raises(PacketAddressError, match="not given out"):
        PacketAddresses(authority(NEXT_KEY)).check("PUT", *found)


@pytest.mark.parametrize("at", range(4))
def test_no_part_can_be_changed(at: int) -> None:
    addresses = PacketAddresses(authority(KEY))
    found = list(parts(addresses.download("http://h", "default", "p")))
    found[at] = found[at][:-1] + ("1" if found[at][-1] != "1" else "2")
    with pytest.raises(PacketAddressError, match="not given out"):
        addresses.check("GET", *found)


def test_a_seal_is_no_token() -> None:
    """Nor the other way round, though both are made with the same keys."""
    judge = authority(KEY)
    token = judge.mint("default", ["read:runs"], 60)
    signed, _, signature = token.rpartition(".")
    assert not judge.is_sealed("default", signed, signature)
    assert judge.is_sealed("default", signed, judge.seal("default", signed))
    assert not judge.is_sealed("other", signed, judge.seal("default", signed))


def test_paths_are_never_the_same() -> None:
    assert len({new_path("p") for _ in range(100)}) == 100
