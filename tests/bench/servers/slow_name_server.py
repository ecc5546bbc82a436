"""A DNS server that answers every query after 50 ms with NXDOMAIN, without the SOA that caching requires (RFC 2308 §5).

It is a separate program, which writes its port of 127.0.0.1 to standard output and runs until it is killed.
"""

from __future__ import annotations

import asyncio
from typing import Any

DELAY = 0.050
NO_SUCH_NAME = b"\x81\x83"  # a response, recursion desired and available, NXDOMAIN (RFC 1035 §4.1.1)
ONE_QUESTION = b"\x00\x01\x00\x00\x00\x00\x00\x00"


class SlowNameServer(asyncio.DatagramProtocol):
    """Answers each datagram after the delay."""

    def connection_made(self, transport: Any) -> None:
        self._transport = transport

    def datagram_received(self, data: bytes, addr: Any) -> None:
        asyncio.get_running_loop().call_later(DELAY, self._transport.sendto, _answer(data), addr)


def _answer(query: bytes) -> bytes:
    end = query.index(b"\x00", 12) + 5  # after the name, which an empty label ends, and type and class
    return query[:2] + NO_SUCH_NAME + ONE_QUESTION + query[12:end]


async def main() -> None:
    """Serve until the program is killed."""
    loop = asyncio.get_running_loop()
    transport, _ = await loop.create_datagram_endpoint(SlowNameServer, local_addr=("127.0.0.1", 0))
    print(transport.get_extra_info("sockname")[1], flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main())
