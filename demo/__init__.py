"""What `pgtide dev` shows: a fleet of workers that write runs, and a page that follows them."""
