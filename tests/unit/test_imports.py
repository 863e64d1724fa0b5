"""The direction of imports, read from the sources: who may know whom, and what does no I/O.

Imports for type checking only do not count.
"""

from __future__ import annotations

import ast
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
OURS = ("engine", "shapes", "demo", "sql")

IMPURE = {
    *(
        "asyncio",
        "fcntl",
        "http",
        "multiprocessing",
        "os",
        "select",
        "selectors",
        "shutil",
        "signal",
    ),
    *("socket", "subprocess", "tempfile", "threading", "urllib.request"),
    *("asyncpg", "httptools", "lmdb", "psycopg", "starlette", "uvicorn", "uvloop"),
}

PURE = (
    "engine/errors.py",
    "engine/lsn.py",
    "engine/pgoutput/*.py",
    "engine/log/layout.py",
    "shapes/wire.py",
    "shapes/http/api/body_room.py",
    "shapes/identifiers.py",
    "shapes/shape.py",
    "shapes/following/encoder.py",
    "shapes/snapshots/snapshot_sql.py",
    *(
        f"shapes/runs/{name}.py"
        for name in ("presentation", "values", "view", "definitions", "ending")
    ),
    "engine/runs/table.py",
    "engine/runs/statuses.py",
    "shapes/where/**/*.py",
    "shapes/following/router/*.py",
    "shapes/runs/metadata_operations.py",
    "shapes/runs/metadata_paths.py",
    "shapes/http/request.py",
    *(
        f"shapes/http/streams/{name}.py"
        for name in (
            *("fields", "create_request", "append_request", "read_request", "cursors"),
            *("entity_tag", "outcomes", "sse_framing", "stream_headers", "page_room"),
        )
    ),
    *(f"shapes/access/{name}.py" for name in ("scopes", "grant", "durations")),
    "shapes/windows/window.py",
    "shapes/windows/moves.py",
    "engine/replication/tick.py",
    "engine/replication/relation_versions.py",
    "engine/replication/stream_notices.py",
    "shapes/streams/*.py",
    *(f"shapes/streams/appending/{name}.py" for name in ("judgement", "arrays")),
    *(f"shapes/streams/live/{name}.py" for name in ("live_stream", "trigger_framing")),
    "shapes/streams/storage/retention.py",
)


def sources(*patterns: str) -> list[str]:
    """Paths below the root that match a pattern."""
    return sorted(
        str(path.relative_to(ROOT)) for pattern in patterns for path in ROOT.glob(pattern)
    )


def path_of(module: str) -> str | None:
    """The source of one of our modules."""
    for name in (f"{module.replace('.', '/')}.py", f"{module.replace('.', '/')}/__init__.py"):
        if (ROOT / name).exists():
            return name
    return None


@cache
def imports(path: str) -> frozenset[str]:
    """Modules that a source imports, wherever in it: also within functions."""
    found: set[str] = set()
    _collect(ast.parse((ROOT / path).read_text()), found)
    return frozenset(found)


def _collect(node: ast.AST, found: set[str]) -> None:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.If) and "TYPE_CHECKING" in ast.dump(child.test):
            for other in child.orelse:
                _collect(other, found)
        elif isinstance(child, ast.Import):
            found.update(alias.name for alias in child.names)
        elif isinstance(child, ast.ImportFrom):
            assert child.level == 0, "imports are absolute"
            assert child.module is not None
            found.add(child.module)
            # `from package import module` imports both.
            submodules = (f"{child.module}.{alias.name}" for alias in child.names)
            found.update(name for name in submodules if path_of(name))
        else:
            _collect(child, found)


def closure(path: str) -> dict[str, str]:
    """Everything that is imported when this is, each with the source that imports it."""
    found: dict[str, str] = {}
    left = [path]
    while left:
        source = left.pop()
        for name in imports(source):
            parts = name.split(".")
            # Importing a module imports the packages that it is in.
            for end in range(1, len(parts) + 1):
                module = ".".join(parts[:end])
                if module not in found:
                    found[module] = source
                    own = path_of(module) if parts[0] in OURS else None
                    left += [own] if own else []
    return found


def test_the_engine_never_imports_shapes() -> None:
    for path in sources("engine/**/*.py"):
        others = {name for name in imports(path) if name.split(".")[0] in ("shapes", "demo")}
        assert not others, path


def test_nothing_but_the_http_folder_knows_http() -> None:
    known = {"shapes/node.py"}
    for path in sources("shapes/**/*.py"):
        if not path.startswith("shapes/http/") and path not in known:
            assert not {name for name in imports(path) if name.startswith("shapes.http")}, path


def test_the_way_of_a_where_clause_has_one_direction() -> None:
    """Values know of values alone, the grammar of nothing else; errors are everybody's."""
    for part in ("values", "grammar"):
        own = ("shapes.where.errors", f"shapes.where.{part}")
        for path in sources(f"shapes/where/{part}/*.py"):
            others = {name for name in imports(path) if name.startswith("shapes.where")}
            assert all(name.startswith(own) for name in others), path


def test_sql_is_executed_nowhere_below_http() -> None:
    for path in sources("shapes/http/*.py"):
        assert not imports(path) & {"psycopg", "asyncpg", "lmdb"}, path


def test_all_pure_modules_are_there() -> None:
    """A module that was moved would otherwise be pure for ever."""
    assert not [pattern for pattern in PURE if not sources(pattern)]


@pytest.mark.parametrize("path", sources(*PURE))
def test_pure_modules_import_nothing_that_does_input_or_output(path: str) -> None:
    found = closure(path)
    impure = {name: source for name, source in found.items() if name in IMPURE}
    assert not impure, f"{path} imports, through these: {impure}"


def test_every_module_can_be_reached_from_the_root() -> None:
    """Imports name what exists: a typo would else only show where the code runs."""
    for path in sources("engine/**/*.py", "shapes/**/*.py"):
        for name in imports(path):
            if name.split(".")[0] in OURS:
                assert path_of(name), f"{path} imports {name}"


def test_modules_of_tests_have_names_of_their_own() -> None:
    """All folders of tests are on the path: of two modules of one name one would be found."""
    names = [Path(path).name for path in sources("tests/*.py", "tests/*/*.py", "tests/*/*/*.py")]
    twice = {name for name in names if names.count(name) > 1} - {"conftest.py"}
    assert not twice
