"""What `help` and editors without type checkers show of methods that are made of functions."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

_SELF = inspect.Parameter("self", inspect.Parameter.POSITIONAL_OR_KEYWORD)


def show_as(method: Callable[..., Any], make: Callable[..., Any]) -> None:
    """Give a method the name, words and parameters of the function that it calls."""
    signature = inspect.signature(make)
    shown = signature.replace(
        parameters=[_SELF, *signature.parameters.values()],
        return_annotation=inspect.Signature.empty,
    )
    method.__name__ = method.__qualname__ = make.__name__
    method.__doc__ = make.__doc__
    method.__dict__["__signature__"] = shown
