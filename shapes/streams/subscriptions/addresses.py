"""Where webhooks may lead: public addresses, lest somebody reaches through pgtide what only pgtide can
reach. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from typing import Final, NamedTuple
from urllib.parse import SplitResult, urlsplit

from shapes.streams.subscriptions.refusals import Code, SubscriptionError

_MOST_CHARACTERS: Final = 2_048

# IANA's registries of special-purpose addresses, and 168.63.129.16, behind which a cloud keeps what it
# tells its machines.
_NOT_PUBLIC = [
    ip_network(text)
    for text in (
        *("0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "168.63.129.16/32"),
        *("169.254.0.0/16", "172.16.0.0/12", "192.0.0.0/24", "192.0.2.0/24", "192.88.99.0/24"),
        *("192.168.0.0/16", "198.18.0.0/15", "198.51.100.0/24", "203.0.113.0/24"),
        *("224.0.0.0/4", "240.0.0.0/4"),
        # Protocols of the IETF (Teredo is one), documentation, 6to4.
        *("2001::/23", "2001:db8::/32", "2002::/16", "3fff::/20"),
    )
]
_UNICAST = ip_network("2000::/3")
_WITH_IPV4_INSIDE = (ip_network("::ffff:0:0/96"), ip_network("64:ff9b::/96"))
_LOOPBACK = re.compile(r"127\.\d{1,3}\.\d{1,3}\.\d{1,3}")


class Target(NamedTuple):
    """Where a webhook goes. `local`: to this machine and nowhere else. `trusted`: wherever the name
    leads, because the settings say so."""

    secure: bool
    host: str
    port: int
    local: bool
    trusted: bool
    path: str
    """With the query."""
    authority: str
    """For the `host` header."""


def target_of(url: str, *, local: bool, trusted: Iterable[str] = ()) -> Target:
    """What a webhook's URL says. `local`: this machine may be reached over plain HTTP; `trusted`: hosts
    about which nothing is asked.

    Raises SubscriptionError if it may not be used, whatever its name resolves to.
    """
    # Anything else is read differently by different readers.
    if len(url) > _MOST_CHARACTERS or not re.fullmatch(r"[!-~]+", url) or "\\" in url:
        raise rejected("webhook.url must be a URL in ASCII, without spaces and backslashes")
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise rejected("webhook.url must be a URL") from None
    host = (parts.hostname or "").rstrip(".")
    if parts.scheme not in ("http", "https") or not host:
        raise rejected("webhook.url must be an absolute URL with https")
    if parts.username is not None or parts.password is not None:
        raise rejected("webhook.url must not hold a password: webhooks are signed")
    known = host in trusted or f"{host}:{port}" in trusted
    here = parts.scheme == "http" and (host == "localhost" or _LOOPBACK.fullmatch(host) is not None)
    if not known:
        if parts.scheme == "http" and not (here and local):
            raise rejected("webhook.url must use https; see PGTIDE_WEBHOOK_HOSTS for exceptions")
        literal = literal_of(host)
        if literal is not None and not here and not is_public(literal):
            raise rejected("webhook.url must not lead to a private or special address")
        if not here and (host == "localhost" or host.endswith(".localhost")):
            raise rejected("webhook.url must not lead to this machine")
    return _target(parts, host, port, local=here and not known, trusted=known)


def _target(
    parts: SplitResult, host: str, port: int | None, *, local: bool, trusted: bool
) -> Target:
    secure = parts.scheme == "https"
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    written = f"[{host}]" if ":" in host else host
    default = 443 if secure else 80
    authority = written if port in (None, default) else f"{written}:{port}"
    return Target(secure, host, port or default, local, trusted, path, authority)


def literal_of(host: str) -> IPv4Address | IPv6Address | None:
    """The address that a host is written as."""
    try:
        return ip_address(host)
    except ValueError:
        return None


def may_reach(target: Target, address: IPv4Address | IPv6Address) -> bool:
    """Whether this is one of the addresses that the target's name may lead to."""
    if target.trusted:
        return True
    return address.is_loopback if target.local else is_public(address)


def is_public(address: IPv4Address | IPv6Address) -> bool:
    """Whether it is an ordinary address of the Internet. Of one that holds another one (mapped, NAT64)
    that other one is asked; those of tunnels (6to4, Teredo) are refused."""
    if isinstance(address, IPv6Address):
        if any(address in network for network in _WITH_IPV4_INSIDE):
            return is_public(IPv4Address(int(address) & 0xFFFF_FFFF))
        if address not in _UNICAST or address.scope_id is not None:
            return False
    return not any(address in network for network in _NOT_PUBLIC)


def rejected(message: str) -> SubscriptionError:
    return SubscriptionError(Code.WEBHOOK_URL_REJECTED, message)
