"""Which table has the runs, and its words for their statuses. Pure."""
