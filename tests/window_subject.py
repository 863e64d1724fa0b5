"""Shapes with a window, for tests that follow them."""

from __future__ import annotations

from dataclasses import dataclass

from shape_rows import Subject


@dataclass(frozen=True)
class WindowSubject(Subject):
    """Rows whose `column` is not older than `length` (`24h`)."""

    column: str = "at"
    length: str = "1h"

    def parameters(self) -> dict[str, str]:
        return super().parameters() | {f"window[{self.column}]": self.length}
