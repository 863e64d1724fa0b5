"""Postgres as it describes itself: tables, publications, quoting, migrations."""
