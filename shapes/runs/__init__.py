"""Background runs: how rows of a table become runs that clients follow, and what is done to them."""
