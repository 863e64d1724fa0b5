"""Values of Postgres's types as Python has them: reading their texts, comparing, computing. Pure."""
