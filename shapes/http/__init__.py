"""The HTTP face: requests in, library answers out."""
