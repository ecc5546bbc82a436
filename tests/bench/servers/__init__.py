"""The servers of the benchmark: gatepost in several configurations, and its peers.

A work may make more of them, such as ``gatepost.with_plugins(10)``.
"""

from __future__ import annotations

from tests.bench.servers import gatepost, haraka, postfix
from tests.bench.servers.aiosmtpd import aiosmtpd
from tests.bench.servers.qpsmtpd import qpsmtpd
from tests.bench.servers.smtp_sink import smtp_sink

_ALL = (
    gatepost.bare(),
    gatepost.default_chain(),
    gatepost.default_chain(dns_hits=0),
    gatepost.default_chain(logs=True),
    gatepost.default_chain(interpreted=True),
    gatepost.forwarding(),
    smtp_sink(),
    aiosmtpd(),
    haraka.haraka(),
    qpsmtpd(),
    postfix.postfix(),
)

_AS_RUN = (gatepost.as_run(), haraka.as_run(), postfix.as_run())

AS_RUN = tuple(server.name for server in _AS_RUN)
"""The servers that log as by default and hand messages over, as people run them."""

SERVERS = {server.name: server for server in _ALL + _AS_RUN}
"""All servers by name, in the order of the tables."""
