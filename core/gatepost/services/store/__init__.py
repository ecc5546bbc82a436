"""The store: small values with a time to live, in memory or in a file."""
