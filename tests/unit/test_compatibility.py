"""docs/electric-compatibility.md names tests: they are there, and every feature has some."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docs" / "electric-compatibility.md").read_text()
NAME = re.compile(r"`((?:unit|db|http|clients|oracle|faults)/test_\w+\.py)(?:::(test_\w+))?`")
ROW = re.compile(r"^\| ([HWSO]\d+) \| ([^|]*) \| ([^|]*) \| ([^|]*) \|$", re.MULTILINE)
FEATURES = [
    *(f"H{number}" for number in range(1, 31)),
    *(f"W{number}" for number in range(1, 9)),
    *(f"S{number}" for number in range(1, 15)),
    *(f"O{number}" for number in range(1, 16)),
]
OUTWARD = ("urllib.request", "http.client", "httpx", "requests", "aiohttp", "smtplib")
"""What a program that reports to somebody would need."""


@cache
def defined_in(path: str) -> set[str]:
    """The test functions of a file under tests/; empty if it is not there."""
    file = ROOT / "tests" / path
    if not file.exists():
        return set()
    nodes = ast.parse(file.read_text()).body
    functions = (ast.FunctionDef, ast.AsyncFunctionDef)
    return {node.name for node in nodes if isinstance(node, functions)}


def test_every_feature_is_there_once() -> None:
    assert [row[0] for row in ROW.findall(TEXT)] == FEATURES


def test_every_feature_has_a_state_and_tests() -> None:
    for feature, _, state, proof in ROW.findall(TEXT):
        assert re.match(r"(yes|refused|no|taken)\b", state.strip()), feature
        assert NAME.search(proof), feature


def test_every_test_that_is_named_exists() -> None:
    missing = [
        f"{path}::{name}" if name else path
        for path, name in NAME.findall(TEXT)
        if not defined_in(path) or (name and name not in defined_in(path))
    ]
    assert not missing


def test_nothing_calls_home() -> None:
    """The only connections that pgtide opens lead to Postgres and to itself."""
    for folder in ("engine", "shapes"):
        for file in sorted((ROOT / folder).rglob("*.py")):
            for node in ast.walk(ast.parse(file.read_text())):
                names = [one.name for one in node.names] if isinstance(node, ast.Import) else []
                if isinstance(node, ast.ImportFrom):
                    names = [node.module or ""]
                found = [name for name in names if name.startswith(OUTWARD)]
                assert not found, f"{file}: {found}"
