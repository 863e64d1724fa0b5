"""Why the embedded Postgres does not run."""

from __future__ import annotations

from engine.errors import PgtideError


class EmbeddedPostgresError(PgtideError):
    """The embedded Postgres cannot be started; the message says what to change."""

    code = "embedded_postgres"
