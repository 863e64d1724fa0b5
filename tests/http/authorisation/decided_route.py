"""One kind of request, and what may be done with what on it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from decided_scopes import Scopes

NOT_FOUND: dict[str, Any] = {"error": "Not found"}

KEYS = "secret keys"
LIMITED_KEYS = "secret keys, also with scopes"
SCOPES = "whoever has one of the scopes"


@dataclass(frozen=True)
class Decided:
    """One kind of request.

    `granted` are groups of scopes with each of which it is served, `denied` those with each of which
    it is refused. `foreign` is what another environment's key gets. `before`: SQL that makes it
    possible once more.
    """

    method: str
    pattern: str
    path: str
    access: str
    status: int = 200
    body: Any = None
    granted: tuple[Scopes, ...] = ()
    denied: tuple[Scopes, ...] = ()
    foreign: tuple[int, Any] = (404, NOT_FOUND)
    headers: dict[str, str] | None = None
    before: str = ""

    @property
    def lasts(self) -> bool:
        """Whether its answer ends only when the time is up that it asks for."""
        return "timeout-seconds" in (self.headers or {})

    @property
    def name(self) -> str:
        return f"{self.method} {self.path}"
