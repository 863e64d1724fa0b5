from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from engine.cli import main
from engine.configuration.quantities import format_duration, format_size, parse_duration, parse_size
from engine.configuration.reference import page
from engine.configuration.settings import SETTINGS, Settings
from engine.errors import SettingsError
from engine.redaction import redact

ROOT = Path(__file__).parents[2]
PASSWORD = "hunter2"
URL = f"postgresql://app:{PASSWORD}@db.example:5432/shop"


def test_a_flag_wins_over_ours_over_electrics_over_the_default() -> None:
    electric = {"ELECTRIC_PORT": "1"}
    ours = {**electric, "PGTIDE_PORT": "2"}
    assert Settings.load({}, {}).port == 3000
    assert Settings.load({}, {}, {"port": "4"}).port == 4
    assert Settings.load({}, electric, {"port": "4"}).port == 1
    assert Settings.load({"port": None}, ours).port == 2
    assert Settings.load({"port": "3"}, ours).port == 3


def test_an_electric_deployments_environment_works_as_it_is() -> None:
    settings = Settings.load(
        {},
        {
            "DATABASE_URL": URL,
            "ELECTRIC_QUERY_DATABASE_URL": "postgres://pooler/shop",
            "ELECTRIC_SECRET": "s3cret",
            "ELECTRIC_LONG_POLL_TIMEOUT": "5000",
            "ELECTRIC_TCP_SEND_TIMEOUT": "1.5min",
            "ELECTRIC_CACHE_MAX_AGE": "30",
            "ELECTRIC_SHAPE_CHUNK_BYTES_THRESHOLD": "1MiB",
            "ELECTRIC_MAX_CONCURRENT_REQUESTS": '{"initial": 5}',
            "ELECTRIC_ENABLE_INTEGRATION_TESTING": "true",
            "ELECTRIC_EXPERIMENTAL_MAX_SHAPES": "9",
            "ELECTRIC_STORAGE_DIR": "/data",
            "ELECTRIC_LOG_LEVEL": "warning",
            "ELECTRIC_REPLICATION_STREAM_ID": "blue",
            "ELECTRIC_PROMETHEUS_PORT": "",
        },
    )
    assert settings.database_url == URL
    assert settings.query_url == "postgres://pooler/shop"
    assert settings.secret == "s3cret"
    assert settings.long_poll_timeout == 5.0
    assert settings.tcp_send_timeout == 90.0
    assert settings.cache_max_age == 30
    assert settings.chunk_bytes == 2**20
    assert settings.max_concurrent_requests == (5, 10000)
    assert settings.enable_delete
    assert settings.max_shapes == 9
    assert settings.log_dir == Path("/data/log")
    assert settings.log_level == "warning"
    assert (settings.slot, settings.publication) == ("pgtide_blue", "pgtide_blue")
    assert settings.prometheus_port is None


def test_a_plain_number_is_seconds_in_our_variables() -> None:
    assert Settings.load({}, {"PGTIDE_LONG_POLL_TIMEOUT": "5"}).long_poll_timeout == 5.0
    assert Settings.load({"long_poll_timeout": "250ms"}, {}).long_poll_timeout == 0.25


@pytest.mark.parametrize(
    ("environ", "source", "accepted"),
    [
        ({"ELECTRIC_PORT": "70000"}, "ELECTRIC_PORT=70000", "0 to 65535"),
        ({"PGTIDE_PORT": "http"}, "PGTIDE_PORT=http", "0 to 65535"),
        ({"PGTIDE_NODES": "0"}, "PGTIDE_NODES=0", "positive integer"),
        ({"PGTIDE_SSE_TIMEOUT": "-1s"}, "PGTIDE_SSE_TIMEOUT=-1s", "250ms"),
        ({"PGTIDE_RETENTION_BYTES": "8 GO"}, "PGTIDE_RETENTION_BYTES=8 GO", "8GiB"),
        ({"ELECTRIC_INSECURE": "maybe"}, "ELECTRIC_INSECURE=maybe", "true or false"),
        ({"PGTIDE_STREAM_ID": "Blue-1"}, "PGTIDE_STREAM_ID=Blue-1", "lower-case"),
        ({"PGTIDE_POSTGRES_VERSION": "15"}, "PGTIDE_POSTGRES_VERSION=15", "16 or 18"),
        ({"PGTIDE_LOG_LEVEL": "loud"}, "PGTIDE_LOG_LEVEL=loud", "debug"),
        ({"PGTIDE_MAX_CONCURRENT_REQUESTS": '{"all": 1}'}, '={"all": 1}', "initial"),
        ({"PGTIDE_MAX_CONCURRENT_REQUESTS": "[1]"}, "=[1]", "initial"),
        ({"DATABASE_URL": f"mysql://u:{PASSWORD}@h/d"}, "mysql://u:***@h/d", "postgresql://"),
        ({"DATABASE_URL": f"u:{PASSWORD}@h/d"}, "DATABASE_URL=***", "postgresql://"),
        ({"PGTIDE_SECRET": f"{PASSWORD}\n"}, "PGTIDE_SECRET=***", "without line breaks"),
        ({"DATABASE_URL": f"{URL}?sslmode=on"}, "sslmode=on", "verify-full"),
    ],
)
def test_a_bad_value_is_named_with_what_is_accepted(
    environ: dict[str, str], source: str, accepted: str
) -> None:
    with pytest.raises(SettingsError) as caught:
        Settings.load({}, environ)
    assert source in str(caught.value)
    assert accepted in str(caught.value)
    assert PASSWORD not in str(caught.value)
    assert caught.value.__cause__ is None
    assert caught.value.__context__ is None


def test_a_bad_flag_is_named_as_a_flag() -> None:
    with pytest.raises(SettingsError, match="--retention-age=soon"):
        Settings.load({"retention_age": "soon"}, {})


def test_children_get_the_very_same_settings(tmp_path: Path) -> None:
    authority = tmp_path / "authority.pem"
    authority.touch()
    settings = Settings.load(
        {"secret": "a b=c&d", "data_dir": str(tmp_path / "ä b"), "sse_keepalive": "1ms"},
        {
            "DATABASE_URL": f"{URL}?options=-c%20geqo%3Doff+x",
            "PGTIDE_DATABASE_CA_FILE": str(authority),
            "PGTIDE_DATABASE_TCP_USER_TIMEOUT": "0.1",
            "PGTIDE_RETENTION_AGE": "36h",
            "PGTIDE_RETENTION_BYTES": "12345678901",
            "PGTIDE_MAX_CONCURRENT_REQUESTS": '{"existing": 7}',
            "PGTIDE_MANUAL_TABLE_PUBLISHING": "yes",
        },
    )
    inherited = {"ELECTRIC_MAX_SHAPES": "5", "ELECTRIC_POOLED_DATABASE_URL": "postgres://other"}
    assert Settings.from_environ({**inherited, **settings.to_environ()}) == settings
    assert Settings.from_environ(Settings().to_environ()) == Settings()


def test_the_url_carries_what_libpq_has_to_know(tmp_path: Path) -> None:
    authority = tmp_path / "my authority.pem"
    authority.touch()
    environ = {
        "DATABASE_URL": f"{URL}?pgbouncer=true&connect_timeout=3&schema=x&sslmode=prefer",
        "ELECTRIC_DATABASE_CA_CERTIFICATE_FILE": str(authority),
        "ELECTRIC_DATABASE_TCP_KEEPALIVE_IDLE": "30s",
        "ELECTRIC_DATABASE_TCP_KEEPALIVE_COUNT": "4",
        "ELECTRIC_DATABASE_TCP_USER_TIMEOUT": "45s",
    }
    root = str(authority).replace(" ", "%20")
    assert Settings.load({}, environ).database_url == (
        f"{URL}?connect_timeout=3&sslrootcert={root}&keepalives_idle=30&keepalives_count=4"
        "&tcp_user_timeout=45000&sslmode=verify-full"
    )
    environ["DATABASE_URL"] = f"{URL}?sslmode=require"
    assert "?sslmode=require&" in (Settings.load({}, environ).database_url or "")


def test_a_socket_url_stays_one() -> None:
    url = "postgresql:///shop?host=/run/postgresql"
    assert Settings.load({}, {"DATABASE_URL": url}).database_url == url


def test_a_ca_file_needs_tls_and_has_to_exist(tmp_path: Path) -> None:
    flags = {"database_ca_file": str(tmp_path / "none.pem")}
    with pytest.raises(SettingsError, match=r"none\.pem is not a file"):
        Settings.load(flags, {"DATABASE_URL": URL})
    (tmp_path / "none.pem").touch()
    with pytest.raises(SettingsError, match="sslmode=disable excludes"):
        Settings.load(flags, {"DATABASE_URL": f"{URL}?sslmode=disable"})


def test_the_description_has_no_secrets() -> None:
    described = Settings.load({"secret": PASSWORD}, {"DATABASE_URL": URL}).describe()
    assert PASSWORD not in str(described)
    assert described["database_url"] == "postgresql://app:***@db.example:5432/shop"
    assert described["secret"] == "***"
    assert described["retention_bytes"] == "8GiB"
    assert "max_shapes" not in described


@pytest.mark.parametrize(
    "text",
    [
        f"connecting to postgresql://app:{PASSWORD}@db/x failed",
        f"postgres://app:p@{PASSWORD}/x@db/y",
        f'"GET /v1/shape?table=runs&secret={PASSWORD}&offset=-1 HTTP/1.1"',
        f"GET /v1/shape?api_secret={PASSWORD}",
        f"host=db password={PASSWORD} dbname=x",
        f"host=db password = '{PASSWORD} and more' dbname=x",
        f'{{"token": "{PASSWORD}", "a": 1}}',
        f"access_token={PASSWORD}",
        f"Authorization: Bearer {PASSWORD}.abc",
        f"PGPASSWORD={PASSWORD}",
        f"postgresql://db/x?user=me&sslpassword={PASSWORD}",
    ],
)
def test_redaction(text: str) -> None:
    redacted = redact(text)
    assert PASSWORD not in redacted
    assert "***" in redacted
    assert redact(redacted) == redacted


def test_redaction_leaves_other_text_alone() -> None:
    text = "http://127.0.0.1:3000/v1/shape?table=secrets&where=a=1 at 10:20 user@host lsn=1/2"
    assert redact(text) == text


@pytest.mark.parametrize("seconds", [0, 0.001, 0.25, 1, 21, 60, 90, 3600, 86400, 1e-4])
def test_durations_parse_back(seconds: float) -> None:
    assert parse_duration(format_duration(seconds)) == seconds


@pytest.mark.parametrize("size", [0, 1, 1000, 1023, 1024, 10485760, 8 * 2**30, 2**63 - 1])
def test_sizes_parse_back(size: int) -> None:
    assert parse_size(format_size(size)) == size


def test_units() -> None:
    assert [parse_duration(t) for t in ("2msec", "3 sec", "1.5m", "2h", "1D")] == [
        *(0.002, 3.0, 90.0, 7200.0, 86400.0)
    ]
    assert [parse_size(t) for t in ("1KB", "1KiB", "1.5 mb", "2GiB", "7")] == [
        *(1000, 1024, 1500000, 2**31, 7)
    ]


def test_the_page_of_settings_is_current() -> None:
    assert (ROOT / "docs" / "settings.md").read_text() == page(SETTINGS), (
        "python -m engine.configuration.reference > docs/settings.md"
    )


def test_help_names_every_setting(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["serve", "--help"])
    assert caught.value.code == 0
    text = " ".join(capsys.readouterr().out.split())
    for setting in SETTINGS:
        assert setting.flag in text
        assert setting.variable in text


OPEN = {"DATABASE_URL": URL, "PGTIDE_INSECURE": "true"}


@pytest.mark.parametrize(
    ("arguments", "environ", "message"),
    [
        (["serve"], {}, "DATABASE_URL or --database-url"),
        (["migrate"], {}, "DATABASE_URL or --database-url"),
        (["doctor"], {}, "DATABASE_URL or --database-url"),
        (["serve"], {"DATABASE_URL": URL}, "PGTIDE_SECRET"),
        (["serve"], {"DATABASE_URL": URL}, "PGTIDE_SECRET_KEYS"),
        (["serve"], {"DATABASE_URL": URL}, "PGTIDE_INSECURE=true"),
        (["serve"], {"DATABASE_URL": URL, "TRIGGER_SECRET_KEY": "x" * 20}, "PGTIDE_SECRET"),
        (["serve"], {"DATABASE_URL": URL, "PGTIDE_SECRET_KEY": PASSWORD}, "16 characters"),
        (["serve"], {"DATABASE_URL": URL, "PGTIDE_CONFIG_FILE": "/no/file"}, "/no/file"),
        (["serve", "--insecure"], {"DATABASE_URL": URL, "ELECTRIC_SECRET": "x"}, "exclude"),
        (["serve", "--insecure"], {"DATABASE_URL": URL, "PGTIDE_SECRET_KEYS": "k" * 16}, "exclude"),
        (["dev", "--host", "0.0.0.0"], {}, "--insecure"),
        (["dev", "--listen-on-ipv6", "--host", "0.0.0.0"], {}, "others can reach ::"),
        (["dev", "--port", "none"], {}, "--port=none"),
        (["serve", "--prot", "80"], {"DATABASE_URL": URL}, "--prot 80. `pgtide serve --help`"),
        (["serve", "--data-dir", "/dev/null/x"], OPEN, "/dev/null/x cannot be written"),
        (["dev", "--data-dir", "/dev/null/x"], {}, "set PGTIDE_DATA_DIR"),
        (
            ["migrate"],
            {"DATABASE_URL": f"postgresql://app:{PASSWORD}@127.0.0.1:1/x"},
            "correct host",
        ),
    ],
)
def test_bad_use_is_one_line_and_exit_code_2(
    arguments: list[str],
    environ: dict[str, str],
    message: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("DATABASE_URL", "PGTIDE_DATABASE_URL", "ELECTRIC_SECRET", "PGTIDE_SECRET"):
        monkeypatch.delenv(name, raising=False)
    for name, text in environ.items():
        monkeypatch.setenv(name, text)
    assert main(arguments) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    assert message in lines[0]
    assert PASSWORD not in lines[0]


def test_the_command_line_starts_without_the_heavy_imports() -> None:
    script = (
        "import sys, engine.cli; "
        "print({'asyncio', 'psycopg', 'subprocess', 'lmdb', 'logging'} & set(sys.modules))"
    )
    result = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, cwd=ROOT, check=True
    )
    assert result.stdout.strip() == "set()"
