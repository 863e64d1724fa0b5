"""What a check has found."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Literal, TypeAlias


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the report.

    `mark` is ✓ for a requirement that is met, ✗ for one that is not, ! for what works and may hurt
    later. `remedy` is the statement or setting that mends it.
    """

    mark: Literal["✓", "✗", "!"]
    text: str
    remedy: str = ""

    def __str__(self) -> str:
        line = f"{self.mark} {self.text}"
        return f"{line}\n    → {self.remedy}" if self.remedy else line


Findings: TypeAlias = AsyncIterator[Finding]


def met(text: str) -> Finding:
    return Finding("✓", text)


def unmet(text: str, remedy: str) -> Finding:
    return Finding("✗", text, remedy)


def advice(text: str, remedy: str) -> Finding:
    return Finding("!", text, remedy)
