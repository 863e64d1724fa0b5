"""What an operator or a function is: an entry of the tables of `routines`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from shapes.where.semantics.types import Type


@dataclass(frozen=True, slots=True, eq=False)
class Routine:
    """An operator or a function for certain argument types.

    `apply` gets non-NULL values; it raises ValueError where Postgres raises an error. It gets None
    for NULLs, too, unless it is `strict`, and may return None. `code` is the same as a Python
    expression of the arguments, where there is one. `with_constant` makes a faster function of the
    first argument from a constant second one; `leading` likewise one of the second from the first,
    which then must be a constant. Both raise ValueError if it is none that will do. `template` is
    the form in SQL, with `{0}`, `{1}` and so on for the arguments, of what is neither an operator
    between its arguments nor a call. `collation` says what the collation of its texts must be: `""`
    for any, `equality` for one in which only equal bytes are equal, `order` for bytewise, `ascii`
    for the C locale, `letters` for one whose upper and lower case letters are known. `refused` is
    the reason why this signature, which Postgres has, cannot be evaluated; `constants_only` is the
    reason why it cannot be unless all arguments are constants. `fold` is what a match that is blind
    to case does to both texts first, character by character.
    """

    name: str
    parameters: tuple[Type, ...]
    result: Type
    apply: Callable[..., Any]
    code: str | None = None
    with_constant: Callable[[Any], Callable[[Any], Any]] | None = None
    leading: Callable[[Any], Callable[[Any], Any]] | None = None
    collation: str = ""
    refused: str = ""
    constants_only: str = ""
    operator: bool = True
    strict: bool = True
    template: str = ""
    fold: Callable[[str], str] | None = None


def unavailable(*_: Any) -> Any:
    """Stands for the evaluation of a routine that is refused."""
    raise ValueError("not available")
