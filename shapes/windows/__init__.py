"""Relative windows: rows of the last hours only, which leave by themselves as they grow old."""
