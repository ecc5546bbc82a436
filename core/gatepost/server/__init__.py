"""The server: from a configuration to listening sockets, and back in good order."""
