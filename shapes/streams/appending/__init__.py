"""Appending to streams: many requests in one commit."""
