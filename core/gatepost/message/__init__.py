"""A message: read from DATA, kept in the spool, and seen by plugins."""
