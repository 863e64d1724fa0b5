"""How much of requests' bodies a node holds at a time. Pure."""

from __future__ import annotations

from typing import Final

FREE_BYTES: Final = 64 << 10
"""Of each body, what is not counted: small ones are taken whatever others send."""

MOST_BYTES: Final = 256 << 20


class BodyRoom:
    """What is held of all bodies together, for as long as their requests are served."""

    def __init__(self, most: int = MOST_BYTES) -> None:
        self.held = 0
        """Bytes."""
        self._most = most

    def take(self, size: int) -> bool:
        """Room for so many bytes more; False if there is none."""
        if self.held + size > self._most:
            return False
        self.held += size
        return True

    def give(self, size: int) -> None:
        """As many are not held any longer."""
        self.held -= size
