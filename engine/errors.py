"""One exception tree. Each error carries a stable code and, in its message, the next step."""

from __future__ import annotations


class PgtideError(Exception):
    """Base of every error that pgtide raises on purpose."""

    code = "pgtide_error"


class SettingsError(PgtideError):
    """A flag or an environment variable has a value that cannot be used."""

    code = "invalid_settings"


class ProtocolError(PgtideError):
    """Bytes from Postgres do not follow the protocol that the manual describes."""

    code = "protocol_error"


class LogError(PgtideError):
    """The log on disk cannot be read or written."""

    code = "log_error"


class DatabaseSetupError(PgtideError):
    """Postgres lacks something that pgtide needs; the message says which statement mends it."""

    code = "database_setup"
