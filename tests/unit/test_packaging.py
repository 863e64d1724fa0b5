"""What a newcomer installs fits together: pins, lock files, the wheel's files, Docker's files."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import threading
import tomllib
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any, cast

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from engine.configuration.settings import SETTINGS, Settings

ROOT = Path(__file__).resolve().parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
COMPOSE = cast("dict[str, Any]", yaml.safe_load((ROOT / "docker-compose.yml").read_text()))
DOCKERFILE = (ROOT / "Dockerfile").read_text()
IMAGE_ENVIRON = dict(re.findall(r"^ +(\w+)=(\S+)", DOCKERFILE, re.MULTILINE))
LOCK_FILES = [
    path
    for pattern in ("demo", "bench", "examples/*", "tests/*")
    for path in ROOT.glob(f"{pattern}/package-lock.json")
]


def pins() -> dict[str, str]:
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pairs = [line.split("==") for line in lines if line and not line.startswith("#")]
    return {canonicalize_name(name): version for name, version in pairs}


def requirements() -> list[Requirement]:
    project = PROJECT["project"]
    extras: dict[str, list[str]] = project["optional-dependencies"]
    lists: list[list[str]] = [project["dependencies"], *extras.values()]
    return [Requirement(text) for texts in lists for text in texts]


def known_variables() -> set[str]:
    return {name for setting in SETTINGS for name in (setting.variable, *setting.about.foreign)}


@pytest.mark.parametrize("requirement", requirements(), ids=str)
def test_every_requirement_is_pinned_to_a_version_that_it_accepts(requirement: Requirement) -> None:
    assert pins()[canonicalize_name(requirement.name)] in requirement.specifier


@pytest.mark.parametrize("path", LOCK_FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_lock_files_pin_by_hash_and_name_no_host(path: Path) -> None:
    packages = cast("dict[str, dict[str, Any]]", json.loads(path.read_text())["packages"])
    for package in packages.values():
        # Where its authors take donations is no address to fetch it from.
        package.pop("funding", None)
        assert "://" not in str(package)
    assert all("integrity" in package for name, package in packages.items() if name)


@pytest.mark.parametrize("path", LOCK_FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_lock_files_are_whole(path: Path) -> None:
    """`npm ci` refuses one that lacks a package, even one for a machine of another kind."""
    packages = cast("dict[str, dict[str, Any]]", json.loads(path.read_text())["packages"])
    missing = [
        (place, needed)
        for place, package in packages.items()
        for needed in package.get("dependencies", {}) | package.get("optionalDependencies", {})
        if not found_in_lock(packages, place, needed)
    ]
    assert not missing
    wanted = json.loads((path.parent / "package.json").read_text())
    assert packages[""].get("dependencies", {}) == wanted.get("dependencies", {})


def found_in_lock(packages: dict[str, dict[str, Any]], place: str, needed: str) -> bool:
    """Whether the package at `place` finds it, in its own folder or in one further up."""
    while True:
        if f"{place}/node_modules/{needed}".lstrip("/") in packages:
            return True
        if not place:
            return False
        place = place.rpartition("node_modules/")[0].rstrip("/")


def test_no_host_in_constraints() -> None:
    assert "://" not in (ROOT / "constraints.txt").read_text()


def test_the_wheel_has_the_page_and_the_sql_but_not_what_npm_installed() -> None:
    setuptools = PROJECT["tool"]["setuptools"]
    assert setuptools["package-data"] == {"demo.page": ["*"], "sql": ["*.sql"]}
    assert "demo.node_modules*" in setuptools["packages"]["find"]["exclude"]


def test_compose_runs_a_postgres_that_can_be_followed() -> None:
    postgres = COMPOSE["services"]["postgres"]
    assert int(postgres["image"].removeprefix("postgres:")) >= 14
    assert "wal_level=logical" in postgres["command"]
    assert postgres["healthcheck"]["test"][1] == "pg_isready"


def test_compose_migrates_before_it_serves() -> None:
    services = COMPOSE["services"]
    assert services["migrate"]["command"] == ["migrate"]
    assert services["pgtide"]["command"] == ["serve"]
    awaited = services["pgtide"]["depends_on"]
    assert awaited["migrate"] == {"condition": "service_completed_successfully"}
    assert services["migrate"]["depends_on"]["postgres"] == {"condition": "service_healthy"}


@pytest.mark.parametrize("service", ["migrate", "pgtide"])
def test_compose_sets_only_variables_that_are_settings(service: str) -> None:
    assert set(COMPOSE["services"][service]["environment"]) <= known_variables()


def test_compose_s_defaults_are_settings_that_serve_starts_with() -> None:
    """The values with nothing in the shell or in .env: insecure by name, no secret beside it."""
    environ = {
        name: re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", value)
        for name, value in COMPOSE["services"]["pgtide"]["environment"].items()
    }
    settings = Settings.from_environ(environ)
    assert settings.insecure
    assert settings.secret is None
    assert settings.database_url == "postgresql://pgtide:pgtide@postgres:5432/pgtide"


def test_compose_reaches_the_port_and_the_folder_that_the_image_uses() -> None:
    service = COMPOSE["services"]["pgtide"]
    settings = Settings.from_environ(IMAGE_ENVIRON)
    assert set(IMAGE_ENVIRON) <= known_variables()
    assert service["ports"][0].endswith(f":{settings.port}")
    assert service["volumes"] == [f"pgtide-data:{settings.data_dir}"]
    assert {"postgres-data", "pgtide-data"} == set(COMPOSE["volumes"])


@pytest.mark.parametrize("name", ["PGTIDE_DATA_DIR", "ELECTRIC_STORAGE_DIR"])
def test_the_image_s_own_values_hide_nobody_s(name: str) -> None:
    assert Settings.from_environ(IMAGE_ENVIRON | {name: "/mine"}).data_dir == Path("/mine")


class Health(BaseHTTPRequestHandler):
    """A server that is in the state that its class says."""

    status = b""

    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()
        self.wfile.write(self.status if self.path == "/v1/health" else b"starting")

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        pass


@pytest.mark.parametrize("name", ["PGTIDE_PORT", "ELECTRIC_PORT"])
def test_the_image_s_health_check(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    found = re.search(r'"-c", \\\n\s+(".+")\]$', DOCKERFILE, re.MULTILINE)
    assert found is not None
    program: str = json.loads(found[1])
    codes: dict[str, int] = {}
    with HTTPServer(("127.0.0.1", 0), Health) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        environ = IMAGE_ENVIRON | {name: str(server.server_address[1])}
        for status in ("active", "waiting", "starting"):
            monkeypatch.setattr(Health, "status", json.dumps({"status": status}).encode())
            codes[status] = subprocess.run([sys.executable, "-c", program], env=environ).returncode
        server.shutdown()
    assert codes == {"active": 0, "waiting": 0, "starting": 1}


def test_compose_is_open_to_this_machine_only_unless_told_otherwise() -> None:
    for service in ("postgres", "pgtide"):
        for port in COMPOSE["services"][service]["ports"]:
            assert port.startswith(("127.0.0.1:", "${PGTIDE_ADDRESS:-127.0.0.1}:"))


def test_the_image_copies_only_what_exists_and_is_not_ignored() -> None:
    allowed = {
        line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line[:1] == "!"
    }
    copied = {
        name
        for line in re.findall(r"^COPY (.+)$", DOCKERFILE, re.MULTILINE)
        for name in line.split()[:-1]
    }
    assert copied == allowed
    assert [name for name in copied if not (ROOT / name).exists()] == []


def test_the_image_does_not_run_as_root() -> None:
    users = re.findall(r"^USER (\w+)$", DOCKERFILE, re.MULTILINE)
    assert users == ["pgtide"]
