"""The log to what each subscriber may see: shapes, feeds, HTTP."""
