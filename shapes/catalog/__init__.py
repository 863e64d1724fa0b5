"""What the database says of tables, time zones and collations, and what nodes agree on of it."""
