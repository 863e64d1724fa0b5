"""Where webhooks may lead."""

from __future__ import annotations

from ipaddress import ip_address

import pytest

from shapes.streams.subscriptions.addresses import is_public, may_reach, target_of
from shapes.streams.subscriptions.refusals import Code, SubscriptionError

NOT_PUBLIC = [
    "0.0.0.0",
    "10.0.0.1",
    "100.64.0.1",
    "100.100.100.200",
    "127.0.0.1",
    "127.255.255.254",
    "168.63.129.16",
    "169.254.169.254",
    "172.16.0.1",
    "172.31.255.255",
    "192.0.0.192",
    "192.0.2.1",
    "192.88.99.1",
    "192.168.1.1",
    "198.18.0.1",
    "198.19.255.255",
    "198.51.100.1",
    "203.0.113.1",
    "224.0.0.1",
    "239.255.255.250",
    "240.0.0.1",
    "255.255.255.255",
    "::",
    "::1",
    "::7f00:1",
    "::127.0.0.1",
    "::ffff:10.0.0.1",
    "::ffff:169.254.169.254",
    "64:ff9b::10.0.0.1",
    "64:ff9b::169.254.169.254",
    "64:ff9b:1::808:808",
    "100::1",
    "2001::1",
    "2001:0:4136:e378:8000:63bf:3fff:fdd2",
    "2001:10::1",
    "2001:20::1",
    "2001:db8::1",
    "2002:a00:1::1",
    "2002:808:808::1",
    "3fff::1",
    "5f00::1",
    "fc00::1",
    "fd00:ec2::254",
    "fe80::1",
    "fe80::1%eth0",
    "fec0::1",
    "ff02::1",
    "2606:4700::1%eth0",
]
PUBLIC = [
    "1.1.1.1",
    "8.8.8.8",
    "100.63.255.255",
    "100.128.0.1",
    "172.15.0.1",
    "172.32.0.1",
    "192.0.1.1",
    "198.17.0.1",
    "223.255.255.1",
    "::ffff:8.8.8.8",
    "64:ff9b::8.8.8.8",
    "2001:200::1",
    "2001:4860:4860::8888",
    "2606:4700:4700::1111",
    "2a00:1450::1",
]


@pytest.mark.parametrize("text", NOT_PUBLIC)
def test_addresses_that_are_not_public(text: str) -> None:
    assert not is_public(ip_address(text))


@pytest.mark.parametrize("text", PUBLIC)
def test_addresses_that_are_public(text: str) -> None:
    assert is_public(ip_address(text))


REJECTED = [
    "http://10.0.0.1/hook",
    "https://10.0.0.1/hook",
    "http://example.com/hook",
    "https://127.0.0.1/hook",
    "https://localhost/hook",
    "https://LOCALHOST./hook",
    "https://a.localhost/hook",
    "https://169.254.169.254/latest/meta-data",
    "https://[::1]/",
    "https://[::ffff:127.0.0.1]/",
    "https://[fd00:ec2::254]/",
    "https://[64:ff9b::a9fe:a9fe]/",
    "http://[::1]/",
    "http://127.0.0.1.example.com/",
    "http://localhost.example.com/",
    "http://127.1/",
    "http://0x7f.0.0.1/",
    "http://2130706433/",
    "ftp://example.com/",
    "file:///etc/passwd",
    "//example.com/",
    "example.com/hook",
    "https://",
    "https:///hook",
    "https://user:secret@example.com/",
    "https://user@example.com/",
    "https://example.com:99999/",
    "https://example.com/a b",
    "https://example.com/\r\nx: y",
    "https://exämple.com/",
    "https://example.com\\@10.0.0.1/",
    "https://[::1/",
    "https://example.com/" + "x" * 3000,
]


@pytest.mark.parametrize("url", REJECTED)
def test_urls_that_are_rejected_wherever_their_names_lead(url: str) -> None:
    with pytest.raises(SubscriptionError) as caught:
        target_of(url, local=True)
    assert caught.value.why is Code.WEBHOOK_URL_REJECTED


@pytest.mark.parametrize(
    "url", ["http://localhost/", "http://127.0.0.1:8000/", "http://127.9.9.9/"]
)
def test_this_machine_is_for_development_alone(url: str) -> None:
    with pytest.raises(SubscriptionError):
        target_of(url, local=False)
    target = target_of(url, local=True)
    assert target.local
    assert may_reach(target, ip_address("127.0.0.1"))
    assert may_reach(target, ip_address("::1"))
    # Whatever somebody makes of the name.
    assert not may_reach(target, ip_address("10.0.0.1"))
    assert not may_reach(target, ip_address("8.8.8.8"))


def test_a_public_name_leads_to_public_addresses_alone() -> None:
    target = target_of("https://hooks.example.com:8443/a/b?c=d#e", local=True)
    assert (target.secure, target.host, target.port) == (True, "hooks.example.com", 8443)
    assert (target.path, target.authority) == ("/a/b?c=d", "hooks.example.com:8443")
    assert may_reach(target, ip_address("8.8.8.8"))
    for address in ("127.0.0.1", "::1", "10.0.0.1", "169.254.169.254", "::ffff:10.0.0.1"):
        assert not may_reach(target, ip_address(address))


def test_hosts_of_the_settings_may_be_anywhere() -> None:
    trusted = ("worker.internal", "10.0.0.1:8080")
    target = target_of("http://worker.internal/hook", local=False, trusted=trusted)
    assert may_reach(target, ip_address("10.2.3.4"))
    assert target_of("http://10.0.0.1:8080/", local=False, trusted=trusted).port == 8080
    for other in ("http://10.0.0.1/", "http://10.0.0.1:8081/", "http://x.worker.internal/"):
        with pytest.raises(SubscriptionError):
            target_of(other, local=False, trusted=trusted)
