"""A mail server on aiosmtpd and nothing else, which takes mail for a domain and discards it.

It is a separate program: ``aiosmtpd_sink.py PORT GREETING_DELAY`` serves 127.0.0.1 until it is killed.
"""

from __future__ import annotations

import asyncio
import sys
from typing import Any

import uvloop
from aiosmtpd.smtp import SMTP, Envelope, Session

from tests.bench.clients import DOMAIN
from tests.bench.servers.running import HOST, HOSTNAME, MESSAGE_LIMIT, SILENCE_LIMIT

BACKLOG = 4096


class Discard:
    """A handler of aiosmtpd that refuses to relay and discards all mail."""

    async def handle_RCPT(  # noqa: N802, aiosmtpd's name
        self, server: SMTP, session: Session, envelope: Envelope, address: str, rcpt_options: list[str]
    ) -> str:
        if not address.lower().endswith(f"@{DOMAIN}"):
            return "550 5.7.1 no relaying"
        envelope.rcpt_tos.append(address)
        return "250 2.1.5 ok"

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:  # noqa: N802
        return "250 2.0.0 discarded"


class DelayedSMTP(SMTP):
    """aiosmtpd with a delay before the greeting, for which it has no hook."""

    delay = 0.0

    async def _handle_client(self) -> None:
        await asyncio.sleep(self.delay)
        await super()._handle_client()


async def serve(port: int, delay: float) -> None:
    """Serve until the program is killed."""
    DelayedSMTP.delay = delay
    made, handler = DelayedSMTP if delay else SMTP, Discard()
    loop = asyncio.get_running_loop()

    def protocol() -> Any:
        return made(
            handler,
            hostname=HOSTNAME,
            data_size_limit=MESSAGE_LIMIT,
            timeout=SILENCE_LIMIT,
            loop=loop,
            enable_SMTPUTF8=True,
        )

    server = await loop.create_server(protocol, HOST, port, backlog=BACKLOG)
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(serve(int(sys.argv[1]), float(sys.argv[2])))
