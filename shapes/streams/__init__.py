"""Streams: append-only sequences of messages, from Postgres's tables to whoever reads them."""
