"""The end of the log as shapes follow it: routing changes to feeds, and bringing feeds there."""
