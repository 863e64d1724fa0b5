"""How many examples a property is tried with."""

from __future__ import annotations

from typing import Final

from hypothesis import settings

_USUAL: Final = 100


def examples(count: int) -> int:
    """So many, and as many times more as the profile has more than is usual.

    For tests whose examples are dear, or dear to miss: the others have as many as the profile says.
    """
    return max(1, count * settings().max_examples // _USUAL)
