"""What the server tells its administrator: log lines, records and the journal."""
