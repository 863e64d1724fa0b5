"""Who may see and do what: tokens, keys, scopes, grants."""
