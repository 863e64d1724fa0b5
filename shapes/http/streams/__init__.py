"""Streams over HTTP, as the protocol Durable Streams has it: `/v1/stream/{path}`."""
