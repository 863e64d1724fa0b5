"""The processes of one pgtide and what ties them together."""
