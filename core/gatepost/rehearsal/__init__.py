"""Rehearsals: policies driven without sockets, for ``gatepost try``, ``check`` and the test kit."""
