"""A plugin that looks up a name at rcpt, begun with the phase, whatever stands before it, and passes."""

from __future__ import annotations

from gatepost import Answer, Resolver, hookimpl


class LookingUpAhead:
    """Asks for a name that no other instance asks for."""

    def __init__(self, dns: Resolver, name: str) -> None:
        self._dns = dns
        self._asked = f"{name.replace('_', '-')}.test"

    @hookimpl(ahead=True)
    async def rcpt(self) -> Answer:
        await self._dns.query(self._asked, "TXT")
        return None
