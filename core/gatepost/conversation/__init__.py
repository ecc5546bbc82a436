"""A conversation: the state of one SMTP dialogue over a gate."""
