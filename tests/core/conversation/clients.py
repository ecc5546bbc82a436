"""Clients of the tests of conversations, and a plugin that writes down how things end."""

from __future__ import annotations

import asyncio
from typing import Any

from gatepost import Receipt, hookimpl
from tests.policy import MESSAGE, Client, Policy, delivering, instance, vouching


class Notes:
    """Writes down every hook of the end of things, as it fires."""

    def __init__(self) -> None:
        self.log: list[str] = []

    @hookimpl
    def reset(self, envelope: Any) -> None:
        self.log.append(f"reset {envelope.sender}")

    @hookimpl
    def quit(self) -> None:
        self.log.append("quit")

    @hookimpl
    async def disconnect(self) -> None:
        await asyncio.sleep(0)
        self.log.append("disconnect")

    @hookimpl
    async def queued(self, receipt: Receipt, envelope: Any, message: Any) -> None:
        await asyncio.sleep(0)
        with message.open() as content:
            self.log.append(f"queued {len(content.read())} {receipt.id == envelope.id} {','.join(receipt.plugins)}")


async def connected(*plugins: Any, client: str = "192.0.2.1", **how: Any) -> Client:
    """A client of a policy that vouches for every recipient and takes every message."""
    return await Policy(
        *plugins, instance(vouching(), "vouching"), instance(delivering(), "delivering"), **how
    ).connect(client)


async def dialogue(client: Client, *lines: str) -> list[int]:
    """The codes of the replies to ``lines``; ``.`` sends a message."""
    return [
        (await client.wait_for(client.rehearsal.send(MESSAGE)) if line == "." else await client.say(line)).code
        for line in lines
    ]
