"""Everything that can be configured: one frozen object, read once at start.

The fields of `Settings` are the only list. Flags, environment variables, `--help`, docs/settings.md
(`python -m engine.configuration.reference > docs/settings.md`) and the redacted log line all come
from it. More than 400 lines, because it is one list.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from engine.configuration.kinds import (
    BYTES,
    CONCURRENCY,
    COUNT,
    DEFAULT_CONCURRENCY,
    DURATION,
    FILE,
    FOLDER,
    IDENTIFIER,
    KEYS,
    LEVEL,
    ORIGIN,
    PORT,
    SECONDS,
    SWITCH,
    TEXT,
    URL,
    ConcurrentRequests,
    one_of,
)
from engine.configuration.reference import About, rows
from engine.configuration.urls import complete_url


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """All settings. Durations are seconds, sizes are bytes. `Settings()` is the defaults."""

    database_url: Annotated[
        str | None,
        About(
            URL,
            "Postgres to follow. Connect directly, not through a pooler: replication needs it.",
            "DATABASE_URL",
        ),
    ] = None
    pooled_database_url: Annotated[
        str | None,
        About(
            URL,
            "URL for queries and snapshots, may lead through a pooler; the database URL if unset.",
            "ELECTRIC_POOLED_DATABASE_URL",
            "ELECTRIC_QUERY_DATABASE_URL",
        ),
    ] = None
    database_ca_file: Annotated[
        Path | None,
        About(
            FILE,
            "PEM file of the authority that must have signed Postgres's certificate. The host name "
            "is verified too, unless the URL says sslmode=require or verify-ca.",
            "ELECTRIC_DATABASE_CA_CERTIFICATE_FILE",
        ),
    ] = None
    database_use_ipv6: Annotated[
        bool,
        About(
            SWITCH,
            "Without effect, known for compatibility: both address families are always tried.",
            "ELECTRIC_DATABASE_USE_IPV6",
        ),
    ] = False
    database_tcp_keepalive_idle: Annotated[
        float | None,
        About(
            DURATION,
            "Silence before the first TCP keepalive to Postgres; 10s if unset.",
            "ELECTRIC_DATABASE_TCP_KEEPALIVE_IDLE",
        ),
    ] = None
    database_tcp_keepalive_interval: Annotated[
        float | None,
        About(
            DURATION,
            "Time between unanswered TCP keepalives to Postgres; 5s if unset.",
            "ELECTRIC_DATABASE_TCP_KEEPALIVE_INTERVAL",
        ),
    ] = None
    database_tcp_keepalive_count: Annotated[
        int | None,
        About(
            COUNT,
            "Unanswered TCP keepalives after which Postgres counts as gone; 3 if unset.",
            "ELECTRIC_DATABASE_TCP_KEEPALIVE_COUNT",
        ),
    ] = None
    database_tcp_user_timeout: Annotated[
        float | None,
        About(
            DURATION,
            "Time sent data may stay unacknowledged by Postgres's side; the system's if unset.",
            "ELECTRIC_DATABASE_TCP_USER_TIMEOUT",
        ),
    ] = None
    database_silence: Annotated[
        float,
        About(
            DURATION,
            "Time Postgres may leave a request, or a snapshot in progress, without a sign of life "
            "before the connection counts as dead.",
        ),
    ] = 30.0
    db_pool_size: Annotated[
        int,
        About(
            COUNT,
            "Database connections for snapshots (two thirds) and for writes, over all nodes.",
            "ELECTRIC_DB_POOL_SIZE",
        ),
    ] = 20
    stream_id: Annotated[
        str,
        About(
            IDENTIFIER,
            "Suffix of the publication and the slot; one per independent pgtide on a database.",
            "ELECTRIC_REPLICATION_STREAM_ID",
        ),
    ] = "default"
    manual_table_publishing: Annotated[
        bool,
        About(
            SWITCH,
            "Never change the publication or a replica identity; follow only what is published.",
            "ELECTRIC_MANUAL_TABLE_PUBLISHING",
        ),
    ] = False
    catalog_interval: Annotated[
        float,
        About(
            DURATION,
            "Time between looks at the catalog for tables that were altered, and for what others "
            "did to the publication.",
            "ELECTRIC_TWEAKS_SCHEMA_RECONCILER_PERIOD",
        ),
    ] = 5.0
    temporary_slot: Annotated[
        bool,
        About(
            SWITCH,
            "Use a slot that ends with the engine's connection: Postgres retains nothing while "
            "pgtide is down, and clients refetch afterwards.",
            "CLEANUP_REPLICATION_SLOTS_ON_SHUTDOWN",
        ),
    ] = False
    temporary_slot_random_name: Annotated[
        bool,
        About(
            SWITCH,
            "With a temporary slot: give it another name each time, so that one whose engine has "
            "just died is in nobody's way.",
            "ELECTRIC_TEMPORARY_REPLICATION_SLOT_USE_RANDOM_NAME",
        ),
    ] = False
    replication_idle_timeout: Annotated[
        float,
        About(
            DURATION,
            "Time without requests and changes after which all connections to Postgres are closed, "
            "until the next request; 0 is never. Meanwhile the slot retains WAL.",
            "ELECTRIC_REPLICATION_IDLE_TIMEOUT",
        ),
    ] = 0.0
    host: Annotated[
        str, About(TEXT, "Address to listen on; 127.0.0.1 is the default of `pgtide dev`.")
    ] = "0.0.0.0"
    port: Annotated[
        int, About(PORT, "TCP port of the HTTP API; 0 takes any free one.", "ELECTRIC_PORT")
    ] = 3000
    listen_on_ipv6: Annotated[
        bool,
        About(SWITCH, "Listen on :: instead of 0.0.0.0.", "ELECTRIC_LISTEN_ON_IPV6"),
    ] = False
    public_url: Annotated[
        str | None,
        About(
            ORIGIN,
            "Where clients reach this, for addresses in answers (packets, callbacks). "
            "If unset, what a request says itself: `host`, and `x-forwarded-proto` of a proxy.",
        ),
    ] = None
    nodes: Annotated[int, About(COUNT, "HTTP processes that share the port.")] = 2
    node_renewal_interval: Annotated[
        float,
        About(
            DURATION,
            "Shortest time between renewals of a node: one that keeps far more memory than it needs "
            "is replaced by a fresh one, when it has little to do and without losing a request; 0 is "
            "never.",
        ),
    ] = 3600.0
    data_dir: Annotated[
        Path,
        About(
            FOLDER,
            "Folder of the log, of snapshots and of the embedded Postgres.",
            "ELECTRIC_STORAGE_DIR",
        ),
    ] = Path(".pgtide")
    secret: Annotated[
        str | None,
        About(
            TEXT,
            "What requests to /v1/shape must carry as `secret=`. `pgtide serve` wants this, secret "
            "keys or `insecure`.",
            "ELECTRIC_SECRET",
            secret=True,
        ),
    ] = None
    secret_keys: Annotated[
        tuple[str, ...],
        About(
            KEYS,
            "Keys of back ends for the API of runs, in the environment `default`: the first signs "
            "tokens, all are accepted. Other environments are in `config_file`.",
            "PGTIDE_SECRET_KEY",
            secret=True,
        ),
    ] = ()
    config_file: Annotated[
        Path | None,
        About(
            FILE,
            "TOML file with what is too long for a variable: environments and their keys, signing "
            "keys, your own table of runs. Keys are read again when it changes.",
        ),
    ] = None
    insecure: Annotated[
        bool,
        About(
            SWITCH,
            "Serve whoever reaches the port; `pgtide serve` refuses this together with a secret or "
            "keys. On in `pgtide dev` on this machine alone, unless there is a secret.",
            "ELECTRIC_INSECURE",
        ),
    ] = False
    webhook_hosts: Annotated[
        tuple[str, ...],
        About(
            KEYS,
            "Hosts (`name` or `name:port`) that webhooks of subscriptions may be sent to wherever "
            "they are, also over plain HTTP. All others have to be public and to use https; with "
            "`insecure`, http://localhost is accepted.",
        ),
    ] = ()
    long_poll_timeout: Annotated[
        float,
        About(
            DURATION,
            "How long a live request waits for a change before it is answered up-to-date.",
            "ELECTRIC_LONG_POLL_TIMEOUT",
        ),
    ] = 20.0
    sse_timeout: Annotated[
        float, About(DURATION, "Life of an SSE response; its client then reconnects.")
    ] = 60.0
    sse_keepalive: Annotated[
        float, About(DURATION, "Silence on an SSE response before a comment is sent.")
    ] = 21.0
    chunk_bytes: Annotated[
        int,
        About(
            BYTES,
            "Size after which a catch-up response ends and the next one begins.",
            "ELECTRIC_SHAPE_CHUNK_BYTES_THRESHOLD",
        ),
    ] = 10485760
    cache_max_age: Annotated[
        int, About(SECONDS, "`max-age` of cacheable responses.", "ELECTRIC_CACHE_MAX_AGE")
    ] = 60
    cache_stale_age: Annotated[
        int,
        About(
            SECONDS,
            "`stale-while-revalidate` of cacheable responses.",
            "ELECTRIC_CACHE_STALE_AGE",
        ),
    ] = 300
    max_concurrent_requests: Annotated[
        ConcurrentRequests,
        About(
            CONCURRENCY,
            "Requests served at a time, for first snapshots and for everything else; others get 503. "
            "Live requests do not count while they wait.",
            "ELECTRIC_MAX_CONCURRENT_REQUESTS",
        ),
    ] = DEFAULT_CONCURRENCY
    max_live_requests: Annotated[
        int,
        About(
            COUNT,
            "Live requests that one environment may have waiting, over all nodes; others get 429, or "
            "503 from /v1/shape.",
        ),
    ] = 100_000
    max_shapes: Annotated[
        int | None,
        About(
            COUNT,
            "Shapes kept at a time, the least recently used goes first; unlimited if unset.",
            "ELECTRIC_MAX_SHAPES",
            "ELECTRIC_EXPERIMENTAL_MAX_SHAPES",
        ),
    ] = None
    shape_idle_timeout: Annotated[
        float,
        About(
            DURATION,
            "Time without a reader after which a shape leaves the router.",
            "ELECTRIC_SHAPE_SUSPEND_AFTER",
        ),
    ] = 600.0
    added_column_grace: Annotated[
        float,
        About(
            DURATION,
            "Time in which clients that come back may go on without a column that was added; those "
            "that follow live may always.",
        ),
    ] = 600.0
    window_step: Annotated[
        float,
        About(
            DURATION,
            "Longest time that a row stays in a relative window (`createdAt=24h`) beyond its age; in "
            "short windows it is a 24th of their length, in none less than 5s unless this is.",
        ),
    ] = 900.0
    retention_age: Annotated[float, About(DURATION, "How long the log keeps a change.")] = 86400.0
    retention_bytes: Annotated[int, About(BYTES, "Size to which the log may grow.")] = 8 * 2**30
    stream_retention_age: Annotated[
        float,
        About(
            DURATION,
            "How long messages of streams are kept at least. What has run out is dropped in parts of "
            "a 14th of this.",
        ),
    ] = 28 * 86400.0
    stream_retention_bytes: Annotated[
        int,
        About(
            BYTES,
            "Size to which the messages of all streams may grow in Postgres, indexes included; the "
            "oldest go first.",
        ),
    ] = 10 * 2**30
    enable_delete: Annotated[
        bool, About(SWITCH, "Allow DELETE /v1/shape.", "ELECTRIC_ENABLE_INTEGRATION_TESTING")
    ] = False
    tcp_send_timeout: Annotated[
        float,
        About(
            DURATION,
            "Time a client may leave its response unread before it is cut off.",
            "ELECTRIC_TCP_SEND_TIMEOUT",
        ),
    ] = 30.0
    tcp_read_timeout: Annotated[
        float,
        About(
            DURATION,
            "Idle life of a keep-alive connection; longer than that of a proxy in front.",
            "ELECTRIC_TCP_READ_TIMEOUT",
        ),
    ] = 60.0
    prometheus_port: Annotated[
        int | None,
        About(PORT, "Port of GET /metrics; off if unset.", "ELECTRIC_PROMETHEUS_PORT"),
    ] = None
    log_level: Annotated[
        str, About(LEVEL, "Least severity that is logged.", "ELECTRIC_LOG_LEVEL")
    ] = "info"
    demo: Annotated[
        bool, About(SWITCH, "Run the demo fleet. On in `pgtide dev` without a database URL.")
    ] = False
    postgres_port: Annotated[
        int,
        About(PORT, "Port of the embedded Postgres; 0 is its last one or a free one from 54320."),
    ] = 0
    postgres_version: Annotated[
        int, About(one_of(16, 18), "Major version of the embedded Postgres.")
    ] = 18

    @staticmethod
    def load(
        flags: Mapping[str, str | bool | None],
        environ: Mapping[str, str],
        defaults: Mapping[str, str] | None = None,
    ) -> Settings:
        """Settings from flags (by field name; None is not given), PGTIDE_* variables, Electric's.

        An empty variable means unset and hides the names behind it. `defaults` (by field name)
        replaces built-in defaults. Raises SettingsError naming the flag or variable at fault.
        """
        values: dict[str, Any] = {}
        for setting in SETTINGS:
            source, text = setting.find(flags, environ, defaults or {})
            if text:
                values[setting.name] = setting.parse(source, text)
        for name in ("database_url", "pooled_database_url"):
            if name in values:
                values[name] = complete_url(name, values)
        return Settings(**values)

    @staticmethod
    def from_environ(environ: Mapping[str, str]) -> Settings:
        """What `to_environ` wrote, or what a person exported."""
        return Settings.load({}, environ)

    def to_environ(self) -> dict[str, str]:
        """All PGTIDE_* variables. An unset one is empty, which hides an inherited name."""
        return {s.variable: s.format(getattr(self, s.name)) for s in SETTINGS}

    def describe(self) -> dict[str, str]:
        """Field name to printable value, free of secrets and passwords; unset ones are left out."""
        values = {s.name: s.format(getattr(self, s.name)) for s in SETTINGS}
        return {s.name: s.show(values[s.name]) for s in SETTINGS if values[s.name]}

    @property
    def publication(self) -> str:
        return f"pgtide_{self.stream_id}"

    @property
    def slot(self) -> str:
        return f"pgtide_{self.stream_id}"

    @property
    def query_url(self) -> str | None:
        """URL for everything but replication."""
        return self.pooled_database_url or self.database_url

    @property
    def listen_host(self) -> str:
        return "::" if self.listen_on_ipv6 and self.host == "0.0.0.0" else self.host

    @property
    def log_dir(self) -> Path:
        return self.data_dir / "log"

    @property
    def snapshot_dir(self) -> Path:
        return self.data_dir / "snapshots"

    @property
    def postgres_dir(self) -> Path:
        return self.data_dir / "postgres"


SETTINGS = rows(Settings)
