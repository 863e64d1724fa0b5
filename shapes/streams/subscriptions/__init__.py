"""Subscriptions: durable cursors over streams that wake workers."""
