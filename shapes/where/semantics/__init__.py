"""From a tree to typed expressions: names, types, casts, which routine is meant. Pure."""
