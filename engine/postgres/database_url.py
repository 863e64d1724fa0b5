"""Connection URLs as libpq understands them."""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import quote, unquote, urlsplit, urlunsplit

# Other parameters in a URL's query (an ORM's, a platform's) are left out, so that a URL made for
# another program works here. `replication` is ours to set.
_PARAMETERS = """
    application_name channel_binding client_encoding connect_timeout dbname
    fallback_application_name gssdelegation gssencmode gsslib host hostaddr keepalives
    keepalives_count keepalives_idle keepalives_interval krbsrvname load_balance_hosts options
    passfile password port require_auth requirepeer service ssl_max_protocol_version
    ssl_min_protocol_version sslcert sslcertmode sslcompression sslcrl sslcrldir sslkey sslmode
    sslnegotiation sslpassword sslrootcert sslsni target_session_attrs tcp_user_timeout
    user
""".split()  # noqa: SIM905 (a list of quoted words is harder to read)
APPLICATION_NAME = "pgtide"
"""What every connection of ours is called in pg_stat_activity."""

_LIVENESS: Mapping[str, str] = {
    "connect_timeout": "10",
    "keepalives_idle": "10",
    "keepalives_interval": "5",
    "keepalives_count": "3",
}
SSL_MODES = ("disable", "allow", "prefer", "require", "verify-ca", "verify-full")


def ssl_mode(url: str) -> str | None:
    """The URL's sslmode, None if it has none."""
    for name, value in _query(url):
        if name == "sslmode":
            return unquote(value)
    return None


def parameters(url: str) -> dict[str, str]:
    """The URL's libpq parameters. Where a name comes twice the last one counts, as for libpq."""
    return {name: unquote(value) for name, value in _query(url)}


def named(url: str) -> str:
    """The URL as we connect with it: under our name, in UTF-8 whatever the role or the database
    prefers, and with TCP keepalives and a limit for connecting where it says nothing about them, so
    that a peer that is gone without a word is noticed within half a minute."""
    return complete(
        url, _LIVENESS, {"application_name": APPLICATION_NAME, "client_encoding": "UTF8"}
    )


def complete(url: str, added: Mapping[str, str], override: Mapping[str, str]) -> str:
    """`url` less what libpq does not know, plus what of `added` it lacks, plus `override`."""
    kept = [(name, value) for name, value in _query(url) if name in _PARAMETERS]
    present = {name for name, _ in kept}
    kept = [(name, value) for name, value in kept if name not in override]
    kept += [(name, quote(added[name])) for name in added if name not in present]
    kept += [(name, quote(override[name])) for name in override]
    query = "&".join(f"{name}={value}" for name, value in kept)
    scheme, authority, path, _, fragment = urlsplit(url)
    # urlunsplit drops the // of an empty authority, which libpq needs.
    target = urlunsplit(("", "", path, query, fragment))
    return f"{scheme}://{authority}{target}"


def _query(url: str) -> list[tuple[str, str]]:
    """Names and values as written: libpq reads + as itself, so nothing is decoded here."""
    pieces = [piece.partition("=") for piece in urlsplit(url).query.split("&") if piece]
    return [(name, value) for name, _, value in pieces]
