"""Streams in their tables: looking them up, reading, making and keeping them."""
