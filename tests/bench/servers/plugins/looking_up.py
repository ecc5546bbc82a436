"""A plugin that looks up a name at rcpt when it is its turn, and passes."""

from __future__ import annotations

from gatepost import Answer, Resolver, hookimpl


class LookingUp:
    """Looks up a name that no other instance looks up."""

    def __init__(self, dns: Resolver, name: str) -> None:
        self._dns = dns
        self._asked = f"{name.replace('_', '-')}.test"

    @hookimpl
    async def rcpt(self) -> Answer:
        await self._dns.query(self._asked, "TXT")
        return None
