"""What an operator sees: numbers that every process keeps, and the page that shows them all."""
