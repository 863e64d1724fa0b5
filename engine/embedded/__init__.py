"""A Postgres of one's own for development and tests: `EmbeddedPostgres`."""

from engine.embedded.failure import EmbeddedPostgresError
from engine.embedded.server import EmbeddedPostgres

__all__ = ["EmbeddedPostgres", "EmbeddedPostgresError"]
