"""Streams as they are followed: what is told of them, to whom, and in what form."""
