"""Plugins that take one client for another, since they keep in ``self`` what one has said."""

from __future__ import annotations

from gatepost import Address, Decision, Resolver, deny, hookimpl


class MixingUpQuestions:
    """The last writer wins, and no reply shows it where all have the same records in DNS."""

    def __init__(self, dns: Resolver) -> None:
        self.dns = dns
        self.zones: dict[str, str] = {}

    @hookimpl
    def mail(self, sender: Address) -> None:
        self.zones["last"] = "example.com" if sender.domain == "example.com" else "other.example"

    @hookimpl
    async def rcpt(self) -> Decision | None:
        return deny("listed") if await self.dns.query(self.zones["last"], "A") else None


class MixingUpWhileWaiting:
    """Sets and reads in one phase, with a wait between."""

    def __init__(self, dns: Resolver) -> None:
        self.dns = dns
        self.domain = ""

    @hookimpl
    async def mail(self, sender: Address) -> Decision | None:
        self.domain = sender.domain + "."
        await self.dns.query("list.example", "TXT")
        return deny("not from there") if self.domain == "example.net." else None


class LeavingItsSender:
    """The classic: it is set at MAIL and used at RCPT, and the two clients that are played get the same verdict."""

    __slots__ = ("sender",)

    @hookimpl
    def mail(self, sender: Address) -> None:
        self.sender = sender

    @hookimpl
    def rcpt(self) -> Decision | None:
        return deny("not welcome") if self.sender.domain == "bad.example" else None
