"""The endpoints beside `/v1/shape`: run updates, triggering, tokens."""
