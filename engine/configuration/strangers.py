"""Electric's environment variables that pgtide takes without effect, and why there is none. Pure.

Whoever moves over can leave them set. A name that has become a setting since counts as one.
"""

from __future__ import annotations

from collections.abc import Collection

_STORAGE = "Shapes are read from one shared log; there is no storage per shape to tune."
_PROCESSES = "Tunes Electric's virtual machine; pgtide has none."
_TELEMETRY = "Metrics are at `prometheus_port`, logs on stderr; nothing is sent anywhere."

STRANGERS: tuple[tuple[str, tuple[str, ...]], ...] = (
    (
        "Names an installation in telemetry; pgtide sends none.",
        ("ELECTRIC_INSTANCE_ID", "ELECTRIC_SERVICE_NAME", "ELECTRIC_DATABASE_ID"),
    ),
    (
        "Shapes always cost about 1 KB while nobody reads them; see `shape_idle_timeout`.",
        ("ELECTRIC_SHAPE_SUSPEND_CONSUMER", "ELECTRIC_SHAPE_HIBERNATE_AFTER"),
    ),
    (
        _STORAGE,
        (
            "ELECTRIC_SHAPE_DB_EXCLUSIVE_MODE",
            "ELECTRIC_SHAPE_DB_STORAGE_DIR",
            "ELECTRIC_SHAPE_DB_SYNCHRONOUS",
            "ELECTRIC_SHAPE_DB_CACHE_SIZE",
            "ELECTRIC_SHAPE_DB_ENABLE_STATS",
            "ELECTRIC_SHAPE_DB_ENABLE_MEMORY_STATS",
            "ELECTRIC_CLEANUP_INTERVAL_MS",
            "ELECTRIC_FLUSH_STALL_GRACE_PERIOD",
        ),
    ),
    (
        "The log and the snapshots are always in files below `data_dir`.",
        ("ELECTRIC_PERSISTENT_STATE", "ELECTRIC_STORAGE"),
    ),
    (
        "There are no features to switch on: what is there is on.",
        ("ELECTRIC_FEATURE_FLAGS", "ELECTRIC_PROFILE_WHERE_CLAUSES"),
    ),
    (
        "Tables are added to the publication at once and stay in it.",
        ("ELECTRIC_PUBLICATION_ALTER_DEBOUNCE_TIME",),
    ),
    (
        "The publication is looked at together with the tables: see `catalog_interval`.",
        ("ELECTRIC_TWEAKS_PUBLICATION_REFRESH_PERIOD",),
    ),
    (
        "A transaction may have any size; it passes in bounded memory.",
        (
            "ELECTRIC_EXPERIMENTAL_MAX_TXN_SIZE",
            "ELECTRIC_EXPERIMENTAL_MAX_BATCH_SIZE",
            "ELECTRIC_SUBQUERY_BUFFER_MAX_TRANSACTIONS",
        ),
    ),
    (
        "Connections last for any number of requests.",
        ("ELECTRIC_TWEAKS_CONN_MAX_REQUESTS",),
    ),
    (
        _PROCESSES,
        (
            "ELECTRIC_CONSUMER_PARTITIONS",
            "ELECTRIC_TWEAKS_PROCESS_REGISTRY_PARTITIONS",
            "ELECTRIC_TWEAKS_HANDLER_FULLSWEEP_AFTER",
            "ELECTRIC_TWEAKS_CONN_HANDLER_FULLSWEEP_AFTER",
            "ELECTRIC_TWEAKS_HTTP_API_NUM_ACCEPTORS",
            "ELECTRIC_PROCESS_SPAWN_OPTS",
            "ELECTRIC_CONSUMER_GC_HEAP_THRESHOLD",
            "ELECTRIC_LOG_OTP_REPORTS",
        ),
    ),
    ("Log lines have no colours.", ("ELECTRIC_LOG_COLORS",)),
    (
        _TELEMETRY,
        (
            "ELECTRIC_OTLP_ENDPOINT",
            "ELECTRIC_OTEL_DEBUG",
            "ELECTRIC_OTEL_SAMPLING_RATIO",
            "ELECTRIC_METRICS_SAMPLING_RATIO",
            "ELECTRIC_OTEL_EXPORT_PERIOD",
            "ELECTRIC_HNY_API_KEY",
            "ELECTRIC_HNY_DATASET",
            "ELECTRIC_STATSD_HOST",
            "ELECTRIC_LIVE_DASHBOARD_PORT",
            "ELECTRIC_SYSTEM_METRICS_POLL_INTERVAL",
            "ELECTRIC_STACK_TELEMETRY_INIT_DELAY",
            "ELECTRIC_TELEMETRY_TOP_PROCESS_LIMIT",
            "ELECTRIC_TELEMETRY_LONG_GC_THRESHOLD",
            "ELECTRIC_TELEMETRY_LONG_SCHEDULE_THRESHOLD",
            "ELECTRIC_TELEMETRY_LONG_MESSAGE_QUEUE_ENABLE_THRESHOLD",
            "ELECTRIC_TELEMETRY_LONG_MESSAGE_QUEUE_DISABLE_THRESHOLD",
            "ELECTRIC_DROP_EMPTY_RESPONSE_SPANS",
            "ELECTRIC_EXCLUDE_SPANS",
            "ELECTRIC_USAGE_REPORTING",
            "ELECTRIC_TELEMETRY_URL",
            "SENTRY_DSN",
            "OTEL_RESOURCE_ATTRIBUTES",
        ),
    ),
)

_HEAD = """
## Without effect

These variables of Electric's may stay set; pgtide has nothing that they would change, and names those
that are set when it starts, as it does with variables that it does not know.

| variables | why |
|---|---|
"""


# What the Python SDK reads, which may have its server's environment.
_CLIENTS = frozenset(("PGTIDE_URL",))


def notices(environ: Collection[str], known: Collection[str]) -> list[str]:
    """What to say about the variables of an environment that are not among the `known` ones."""
    strangers = {name for _, names in STRANGERS for name in names} - set(known)
    in_vain = sorted(strangers & set(environ))
    unknown = sorted(
        name
        for name in set(environ) - strangers - set(known) - _CLIENTS
        if name.startswith(("PGTIDE_", "ELECTRIC_"))
    )
    texts = (
        (in_vain, "set without effect; docs/settings.md says why"),
        (unknown, "unknown and ignored; docs/settings.md lists what there is"),
    )
    return [f"{', '.join(names)}: {text}" for names, text in texts if names]


def section(known: Collection[str]) -> str:
    """The part of docs/settings.md about all of them but the `known` ones."""
    lines: list[str] = []
    for why, names in STRANGERS:
        left = [f"`{name}`" for name in names if name not in known]
        if left:
            lines.append(f"| {', '.join(left)} | {why} |\n")
    return _HEAD + "".join(lines)
