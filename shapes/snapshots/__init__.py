"""Rows as they were at one moment: taken, stitched to the log, kept on disk."""
