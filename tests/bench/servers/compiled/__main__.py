"""Compile gatepost: ``python -m tests.bench.servers.compiled``."""

from tests.bench.servers.compiled import install

install()
