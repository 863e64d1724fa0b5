"""Upper and lower case, as a collation of the database has it.

For collations of the C library and of Postgres itself, `lower` and `upper` map character by character,
so that a table from the database says all. Other collations look at what stands around a letter.
"""

from __future__ import annotations

import string
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True, eq=False)
class Letters:
    """The characters that have another case, by code point.

    `plain`: among ASCII characters these are just the letters, as everywhere but in Turkish.
    `ascii`: there are no others.
    """

    to_lower: Mapping[int, str]
    to_upper: Mapping[int, str]
    plain: bool
    ascii: bool

    def lower(self, text: str) -> str:
        if self.plain and text.isascii():
            return text.lower()
        return text.translate(self.to_lower)

    def upper(self, text: str) -> str:
        if self.plain and text.isascii():
            return text.upper()
        return text.translate(self.to_upper)


def make_letters(to_lower: Mapping[int, str], to_upper: Mapping[int, str]) -> Letters:
    """From code points to the characters that `lower` and `upper` make of them."""
    lower = {code: to_lower[code] for code in to_lower if code < 128}
    upper = {code: to_upper[code] for code in to_upper if code < 128}
    plain = lower == _LOWER and upper == _UPPER
    return Letters(to_lower, to_upper, plain, plain and (len(to_lower), len(to_upper)) == (26, 26))


_LOWER: Final = {ord(one): one.lower() for one in string.ascii_uppercase}
_UPPER: Final = {ord(one): one.upper() for one in string.ascii_lowercase}

ASCII: Final = make_letters(_LOWER, _UPPER)
"""Of the collations C and POSIX."""
