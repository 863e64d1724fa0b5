"""From Postgres's WAL to the log: the stream, its slot, transactions, ticks."""
