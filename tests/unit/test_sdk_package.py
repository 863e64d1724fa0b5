"""The Python SDK as a package: what it needs, what it brings along, what its core does not do."""

from __future__ import annotations

import ast
import inspect
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement

import pgtide
import pgtide.sync

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "client" / "src" / "pgtide"
PROJECT = tomllib.loads((ROOT / "client" / "pyproject.toml").read_text())["project"]
IMPURE = {"asyncio", "httpx2", "logging", "os", "select", "socket", "subprocess", "time"}


def test_its_requirements_are_pinned() -> None:
    pins = dict(re.findall(r"^(\S+)==(\S+)$", (ROOT / "constraints.txt").read_text(), re.MULTILINE))
    for requirement in map(Requirement, PROJECT["dependencies"]):
        assert pins[requirement.name] in requirement.specifier
    assert (PACKAGE / "py.typed").exists()


def test_it_needs_nothing_of_the_server() -> None:
    names = "asyncpg engine lmdb orjson psycopg shapes starlette uvloop"
    program = f"import pgtide, pgtide.sync, sys; print(*set('{names}'.split()) & set(sys.modules))"
    assert subprocess.check_output([sys.executable, "-c", program], text=True).strip() == ""


@pytest.mark.parametrize("path", sorted(PACKAGE.glob("protocol/*.py")), ids=lambda path: path.name)
def test_the_protocol_waits_for_nothing(path: Path) -> None:
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            found.add(node.module or "")
    assert not found & IMPURE
    ours = {name for name in found if name.startswith("pgtide")}
    assert all(name.startswith(("pgtide.protocol", "pgtide.errors")) for name in ours)


@pytest.mark.parametrize("group", ["runs", "metadata", "streams", "wait", "auth"])
def test_both_faces_have_the_same_names_and_signatures(group: str) -> None:
    faces = [getattr(pgtide, group), getattr(pgtide.sync, group)]
    names, others = ({name for name in dir(face) if name[0] != "_"} for face in faces)
    assert names == others
    for name in names - {"current", "parent", "root"}:
        first, second = (inspect.signature(getattr(face, name)) for face in faces)
        assert list(first.parameters) == list(second.parameters), name
    for name in pgtide.sync.__all__:
        assert hasattr(pgtide, name)
