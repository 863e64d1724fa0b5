"""The synchronous face: the same names, for threads."""
