"""Pieces of the Python source of compiled expressions, and how it becomes a function."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any, Final

from shapes.where.errors import EvaluationError, Failure, UnchangedValueError, WhereError
from shapes.where.rows import UNCHANGED, Predicate

_MOST_NESTED: Final = 8
_LONGEST_CACHED: Final = 2048
_NOT_PARSED: Final = object()


def all_checks(checks: list[str]) -> str:
    """What says that no operand is NULL. All that are computed are computed, as in Postgres: the
    error of one is not hidden by another one's NULL."""
    computed = [check for check in checks if ":=" in check]
    first = [f"({' & '.join(f'({check})' for check in computed)})"] if computed[1:] else computed
    constant = [check for check in checks if check == "False"]
    others = [check for check in checks if check != "False" and check not in computed]
    return " and ".join((*constant, *first, *others))


def first_of(branches: Sequence[tuple[str, str]], otherwise: str) -> str:
    """The value of the first branch whose condition is true. Many of them must not be nested, since
    Python does not compile that."""
    if len(branches) <= _MOST_NESTED:
        nested = "".join(f"{value} if {condition} else " for condition, value in branches)
        return f"({nested}{otherwise})"
    flat = "".join(f"{condition} and ({value},) or " for condition, value in branches)
    return f"({flat}({otherwise},))[0]"


def _failed(error: Exception) -> EvaluationError:
    """Only messages of our own are known to be without values."""
    return EvaluationError(str(error) if isinstance(error, Failure) else "a value is not valid")


def factory(source: str, constants: int) -> Callable[..., Predicate]:
    """A function that makes the compiled one from its constants."""
    make = _make if len(source) > _LONGEST_CACHED else _cached_make
    return make(source, constants)


def _make(source: str, constants: int) -> Callable[..., Predicate]:
    names = ", ".join(f"k{number}" for number in range(constants))
    whole = f"def make({names}):\n  {source}\n  return test\n"
    namespace: dict[str, Any] = {
        "U": UNCHANGED,
        "N": _NOT_PARSED,
        "E": UnchangedValueError,
        "F": _failed,
    }
    try:
        exec(compile(whole, "<where clause>", "exec"), namespace)
    except (SyntaxError, RecursionError, MemoryError):
        # Python has limits of its own to how deep parentheses and branches may be nested.
        raise WhereError("the expression is too complex; nest it less") from None
    return namespace["make"]


_cached_make = lru_cache(maxsize=1024)(_make)
