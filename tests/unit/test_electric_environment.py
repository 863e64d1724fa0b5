"""An environment made for Electric boots pgtide: every variable is a setting or is without effect."""

from __future__ import annotations

from pathlib import Path

import pytest

from engine.configuration.settings import SETTINGS, Settings
from engine.configuration.strangers import STRANGERS, notices, section

ROOT = Path(__file__).resolve().parents[2]
KNOWN = {name for setting in SETTINGS for name in setting.about.foreign}

# As in Electric's documentation, each with its default there or a value of its kind.
DOCUMENTED = {
    "DATABASE_URL": "postgresql://a:b@localhost:5432/c?sslmode=require&pool_timeout=3",
    "ELECTRIC_POOLED_DATABASE_URL": "postgresql://a:b@localhost:6432/c?pgbouncer=true",
    "ELECTRIC_QUERY_DATABASE_URL": "postgresql://a:b@localhost:6432/c",
    "ELECTRIC_DATABASE_USE_IPV6": "false",
    "ELECTRIC_DB_POOL_SIZE": "20",
    "ELECTRIC_DATABASE_TCP_KEEPALIVE_IDLE": "60s",
    "ELECTRIC_DATABASE_TCP_KEEPALIVE_INTERVAL": "10s",
    "ELECTRIC_DATABASE_TCP_KEEPALIVE_COUNT": "3",
    "ELECTRIC_DATABASE_TCP_USER_TIMEOUT": "30000",
    "ELECTRIC_REPLICATION_STREAM_ID": "default",
    "CLEANUP_REPLICATION_SLOTS_ON_SHUTDOWN": "false",
    "ELECTRIC_TEMPORARY_REPLICATION_SLOT_USE_RANDOM_NAME": "false",
    "ELECTRIC_REPLICATION_IDLE_TIMEOUT": "0",
    "ELECTRIC_MANUAL_TABLE_PUBLISHING": "false",
    "ELECTRIC_SECRET": "s3cret",
    "ELECTRIC_INSECURE": "false",
    "ELECTRIC_INSTANCE_ID": "0d3c6d34-0000-4000-8000-3d3c6d340000",
    "ELECTRIC_SERVICE_NAME": "electric",
    "ELECTRIC_PORT": "3000",
    "ELECTRIC_LISTEN_ON_IPV6": "true",
    "ELECTRIC_TCP_SEND_TIMEOUT": "30s",
    "ELECTRIC_TCP_READ_TIMEOUT": "60s",
    "ELECTRIC_SHAPE_CHUNK_BYTES_THRESHOLD": "10485760",
    "ELECTRIC_LONG_POLL_TIMEOUT": "20000",
    "ELECTRIC_CACHE_MAX_AGE": "60",
    "ELECTRIC_CACHE_STALE_AGE": "300",
    "ELECTRIC_MAX_CONCURRENT_REQUESTS": '{"initial": 300, "existing": 10000}',
    "ELECTRIC_MAX_SHAPES": "1000",
    "ELECTRIC_EXPERIMENTAL_MAX_SHAPES": "1000",
    "ELECTRIC_SHAPE_SUSPEND_CONSUMER": "true",
    "ELECTRIC_SHAPE_HIBERNATE_AFTER": "30s",
    "ELECTRIC_SHAPE_SUSPEND_AFTER": "10min",
    "ELECTRIC_SHAPE_DB_EXCLUSIVE_MODE": "true",
    "ELECTRIC_SHAPE_DB_STORAGE_DIR": ":memory:",
    "ELECTRIC_SHAPE_DB_SYNCHRONOUS": "OFF",
    "ELECTRIC_SHAPE_DB_CACHE_SIZE": "4096KiB",
    "ELECTRIC_SHAPE_DB_ENABLE_STATS": "true",
    "ELECTRIC_SHAPE_DB_ENABLE_MEMORY_STATS": "true",
    "ELECTRIC_PERSISTENT_STATE": "FILE",
    "ELECTRIC_STORAGE": "FAST_FILE",
    "ELECTRIC_STORAGE_DIR": "./persistent",
    "ELECTRIC_CLEANUP_INTERVAL_MS": "10s",
    "ELECTRIC_CONSUMER_PARTITIONS": "4",
    "ELECTRIC_TWEAKS_PROCESS_REGISTRY_PARTITIONS": "4",
    "ELECTRIC_FEATURE_FLAGS": "allow_subqueries,tagged_subqueries",
    "ELECTRIC_PUBLICATION_ALTER_DEBOUNCE_TIME": "0",
    "ELECTRIC_TWEAKS_PUBLICATION_REFRESH_PERIOD": "60s",
    "ELECTRIC_TWEAKS_SCHEMA_RECONCILER_PERIOD": "60s",
    "ELECTRIC_TWEAKS_CONN_MAX_REQUESTS": "50",
    "ELECTRIC_TWEAKS_CONN_HANDLER_FULLSWEEP_AFTER": "10",
    "ELECTRIC_TWEAKS_HTTP_API_NUM_ACCEPTORS": "100",
    "ELECTRIC_FLUSH_STALL_GRACE_PERIOD": "1m",
    "ELECTRIC_SUBQUERY_BUFFER_MAX_TRANSACTIONS": "1000",
    "ELECTRIC_EXPERIMENTAL_MAX_TXN_SIZE": "250MiB",
    "ELECTRIC_EXPERIMENTAL_MAX_BATCH_SIZE": "100",
    "ELECTRIC_PROCESS_SPAWN_OPTS": "{}",
    "ELECTRIC_CONSUMER_GC_HEAP_THRESHOLD": "1000",
    "ELECTRIC_ENABLE_INTEGRATION_TESTING": "false",
    "ELECTRIC_DATABASE_ID": "single_stack",
    "ELECTRIC_PROFILE_WHERE_CLAUSES": "false",
    "ELECTRIC_OTLP_ENDPOINT": "http://localhost:4318",
    "ELECTRIC_OTEL_DEBUG": "false",
    "ELECTRIC_OTEL_SAMPLING_RATIO": "0.01",
    "ELECTRIC_METRICS_SAMPLING_RATIO": "1",
    "ELECTRIC_OTEL_EXPORT_PERIOD": "30s",
    "ELECTRIC_HNY_API_KEY": "key",
    "ELECTRIC_HNY_DATASET": "set",
    "ELECTRIC_PROMETHEUS_PORT": "9090",
    "ELECTRIC_STATSD_HOST": "localhost",
    "ELECTRIC_LIVE_DASHBOARD_PORT": "8080",
    "ELECTRIC_SYSTEM_METRICS_POLL_INTERVAL": "5s",
    "ELECTRIC_STACK_TELEMETRY_INIT_DELAY": "1s",
    "ELECTRIC_TELEMETRY_TOP_PROCESS_LIMIT": "count:5",
    "ELECTRIC_TELEMETRY_LONG_GC_THRESHOLD": "500ms",
    "ELECTRIC_TELEMETRY_LONG_SCHEDULE_THRESHOLD": "500ms",
    "ELECTRIC_TELEMETRY_LONG_MESSAGE_QUEUE_ENABLE_THRESHOLD": "20",
    "ELECTRIC_TELEMETRY_LONG_MESSAGE_QUEUE_DISABLE_THRESHOLD": "0",
    "ELECTRIC_DROP_EMPTY_RESPONSE_SPANS": "true",
    "ELECTRIC_EXCLUDE_SPANS": "a,b",
    "SENTRY_DSN": "https://key@localhost/1",
    "OTEL_RESOURCE_ATTRIBUTES": "service.name=electric",
    "ELECTRIC_LOG_LEVEL": "info",
    "ELECTRIC_LOG_COLORS": "true",
    "ELECTRIC_LOG_OTP_REPORTS": "false",
    "ELECTRIC_USAGE_REPORTING": "false",
}


def test_all_of_it_at_once() -> None:
    settings = Settings.from_environ(DOCUMENTED)
    assert settings.listen_host == "::"
    assert settings.replication_idle_timeout == 0
    assert settings.max_shapes == 1000
    assert settings.shape_idle_timeout == 600
    # What another program reads from a URL is no concern of libpq.
    assert settings.database_url is not None
    assert "pool_timeout" not in settings.database_url
    assert "pgbouncer" not in (settings.pooled_database_url or "")


@pytest.mark.parametrize("name", [*DOCUMENTED, "ELECTRIC_DATABASE_CA_CERTIFICATE_FILE"])
def test_each_is_on_the_page(name: str) -> None:
    strangers = {name for _, names in STRANGERS for name in names}
    assert name in KNOWN | strangers
    assert f"`{name}`" in (ROOT / "docs/settings.md").read_text()


def test_a_stranger_that_became_a_setting_is_not_listed_as_without_effect() -> None:
    name = STRANGERS[0][1][0]
    assert f"`{name}`" in section(())
    assert f"`{name}`" not in section({name})


def test_what_is_set_in_vain_is_named() -> None:
    assert notices({"PATH", "DATABASE_URL", "ELECTRIC_SECRET"}, KNOWN) == []
    in_vain, unknown = notices(
        {"SENTRY_DSN", "ELECTRIC_PORTT", "ELECTRIC_OTEL_DEBUG", "PGTIDE_URL"}, KNOWN
    )
    assert in_vain.startswith("ELECTRIC_OTEL_DEBUG, SENTRY_DSN: set without effect")
    assert unknown.startswith("ELECTRIC_PORTT: unknown")


@pytest.mark.parametrize(
    ("mode", "kept"),
    [("disable", "disable"), ("allow", "allow"), ("prefer", "prefer"), ("require", "require"),
     ("verify-ca", "verify-ca"), ("verify-full", "verify-full")],
)  # fmt: skip
def test_sslmode(mode: str, kept: str) -> None:
    settings = Settings.from_environ({"DATABASE_URL": f"postgres://h/d?sslmode={mode}"})
    assert settings.database_url == f"postgres://h/d?sslmode={kept}"


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("1500", 1.5), ("250ms", 0.25), ("250msec", 0.25), ("2s", 2), ("2sec", 2), ("1.5m", 90),
     ("2min", 120)],
)  # fmt: skip
def test_durations(text: str, seconds: float) -> None:
    settings = Settings.from_environ({"ELECTRIC_LONG_POLL_TIMEOUT": text})
    assert settings.long_poll_timeout == seconds


@pytest.mark.parametrize(
    ("text", "size"),
    [("10485760", 10485760), ("10KB", 10000), ("10KiB", 10240), ("1MB", 10**6), ("1MiB", 2**20),
     ("1GB", 10**9), ("1GiB", 2**30)],
)  # fmt: skip
def test_sizes(text: str, size: int) -> None:
    settings = Settings.from_environ({"ELECTRIC_SHAPE_CHUNK_BYTES_THRESHOLD": text})
    assert settings.chunk_bytes == size
