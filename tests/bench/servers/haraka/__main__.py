"""Install Haraka: ``python -m tests.bench.servers.haraka``."""

from tests.bench.servers.haraka import install

install()
