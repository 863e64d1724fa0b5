"""From the text of a where clause to a tree, by Postgres's grammar. Pure."""
