"""DNS: what a plugin asks, the client that asks name servers, and the messages on the wire."""
