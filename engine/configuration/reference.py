"""The table behind the settings: what each field of a settings class is called, takes and means."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, cast, get_type_hints

from engine.configuration.kinds import URL, ConcurrentRequests, Kind
from engine.configuration.strangers import section
from engine.errors import SettingsError
from engine.redaction import MASK, redact

Value = str | int | float | bool | Path | ConcurrentRequests | tuple[str, ...] | None

_PAGE_HEAD = """# Settings

A flag wins over a `PGTIDE_*` variable, that over the other names, those over the default. An empty
variable means unset. A duration without a unit is seconds; under an `ELECTRIC_*` name it is
milliseconds.

| flag | variable | also read | default | meaning |
|---|---|---|---|---|
"""


class About:
    """What a field's annotation says: kind of value, text for people, other programs' names."""

    def __init__(self, kind: Kind[Any], text: str, *foreign: str, secret: bool = False) -> None:
        self.kind = kind
        self.text = text
        self.foreign = foreign
        self.secret = secret


@dataclass(frozen=True, slots=True)
class Setting:
    """One row of the table of settings."""

    name: str
    about: About
    default: Value

    @property
    def variable(self) -> str:
        return f"PGTIDE_{self.name.upper()}"

    @property
    def flag(self) -> str:
        return "--" + self.name.replace("_", "-")

    def find(
        self,
        flags: Mapping[str, str | bool | None],
        environ: Mapping[str, str],
        defaults: Mapping[str, str],
    ) -> tuple[str, str]:
        """Where the value comes from, for messages, and its text; empty if it was not given."""
        flag = flags.get(self.name)
        if flag is not None:
            return self.flag, str(flag)
        for name in (self.variable, *self.about.foreign):
            if name in environ:
                return name, environ[name]
        return self.variable, defaults.get(self.name, "")

    def parse(self, source: str, text: str) -> Value:
        """The value of `text`, given by the flag or variable `source`. Raises SettingsError."""
        kind = self.about.kind
        try:
            if source in self.about.foreign and kind.parse_milliseconds is not None:
                return kind.parse_milliseconds(text)
            return kind.parse(text)
        except (ValueError, TypeError):
            message = f"{source}={self.show(text)} cannot be used: give {kind.accepts}"
        raise SettingsError(message)

    def format(self, value: Value) -> str:
        return "" if value is None else self.about.kind.format(value)

    def show(self, text: str) -> str:
        """`text` as it may be printed."""
        if self.about.secret:
            return MASK
        if self.about.kind is URL and "://" not in text:
            return MASK  # whatever it is, it may hold a password
        return redact(text)


def rows(settings: type[Any]) -> tuple[Setting, ...]:
    """The table of a dataclass whose fields are all `Annotated[..., About(...)]`."""
    hints = get_type_hints(settings, include_extras=True)
    return tuple(
        Setting(field.name, hints[field.name].__metadata__[0], cast("Value", field.default))
        for field in fields(settings)
    )


def page(table: tuple[Setting, ...]) -> str:
    """docs/settings.md."""
    known = {name for setting in table for name in setting.about.foreign}
    return _PAGE_HEAD + "".join(_line(setting) for setting in table) + section(known)


def _line(setting: Setting) -> str:
    default = setting.format(setting.default)
    cells = (
        f"`{setting.flag}`",
        f"`{setting.variable}`",
        ", ".join(f"`{name}`" for name in setting.about.foreign),
        f"`{default}`" if default else "",
        f"{setting.about.text} Takes {setting.about.kind.accepts}.",
    )
    return "| " + " | ".join(cells) + " |\n"


if __name__ == "__main__":
    from engine.configuration.settings import SETTINGS

    sys.stdout.write(page(SETTINGS))
