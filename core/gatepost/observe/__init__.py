"""What a server says of itself: a log line for each outcome, and records for ``gatepost explain``."""
