"""Postgres to one ordered, durable log. Knows nothing of shapes or HTTP."""
