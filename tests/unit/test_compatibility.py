"""The pages of what is compatible name tests: they are there, and every feature that pgtide has is
shown by some."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
NAME = re.compile(
    r"`((?:unit|db|http|clients|oracle|faults)/[\w/]*(?:test_\w+\.py|\w+\.mjs))(?:::(test_\w+))?`"
)
ROW = re.compile(r"^\| ([A-Z]\d+) \| ([^|]*) \| ([^|]*) \| ([^|]*) \|$", re.MULTILINE)
FEATURES = {
    "electric-compatibility.md": {"H": 30, "W": 8, "S": 14, "O": 15},
    "trigger-compatibility.md": {"T": 27, "K": 11},
}
"""For each page the numbers of its features, by letter."""
STATE = re.compile(r"(yes|refused|no|not yet|taken|the run)\b")
MISSING = re.compile(r"(no|not yet)\b")
"""Nothing can show what there is not."""
OUTWARD = ("urllib.request", "http.client", "httpx", "requests", "aiohttp", "smtplib")
"""What a program that reports to somebody would need."""


@pytest.fixture(params=FEATURES)
def page(request: pytest.FixtureRequest) -> str:
    return request.param


def text_of(page: str) -> str:
    return (ROOT / "docs" / page).read_text()


def named_in(page: str) -> list[tuple[str, str]]:
    """Paths under tests/, and names of functions (empty for whole files)."""
    return NAME.findall(text_of(page))


@cache
def defined_in(path: str) -> set[str]:
    """The test functions of a file under tests/."""
    nodes = ast.parse((ROOT / "tests" / path).read_text()).body
    functions = (ast.FunctionDef, ast.AsyncFunctionDef)
    return {node.name for node in nodes if isinstance(node, functions)}


def is_there(path: str, name: str) -> bool:
    if not (ROOT / "tests" / path).exists():
        return False
    return not name or name in defined_in(path)


def test_every_feature_is_there_once(page: str) -> None:
    expected = [
        f"{letter}{number}"
        for letter, last in FEATURES[page].items()
        for number in range(1, last + 1)
    ]
    assert [row[0] for row in ROW.findall(text_of(page))] == expected


def test_every_feature_has_a_state_and_tests(page: str) -> None:
    for feature, _, state, proof in ROW.findall(text_of(page)):
        assert STATE.match(state), feature
        assert NAME.search(proof) or (MISSING.match(state) and proof == "–"), feature


def test_every_test_that_is_named_exists(page: str) -> None:
    missing = [f"{path}::{name}" for path, name in named_in(page) if not is_there(path, name)]
    assert not missing


def test_nothing_that_looks_like_a_test_is_overlooked(page: str) -> None:
    code = re.findall(r"`([^`\s]+\.(?:py|mjs)\b[^`]*)`", text_of(page))
    found = {f"{path}::{name}" if name else path for path, name in named_in(page)}
    assert set(code) - found <= {"tests/unit/test_compatibility.py"}


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
