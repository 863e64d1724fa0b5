"""The table whose rows are the runs: see `engine.run_table`. Pure."""

from engine.run_table import FIELDS, RunTable, RunTableError

__all__ = ["FIELDS", "RunTable", "RunTableError"]
