"""The next hop: a client of the mail server behind the gate, over SMTP or LMTP."""
