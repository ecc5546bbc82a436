"""Refuse clients that use our own name in HELO."""

from gatepost import Decision, Server, deny, hookimpl


class OurName:
    skip_trusted = True

    @hookimpl
    def startup(self, server: Server) -> None:
        self.ours = server.hostname.lower()

    @hookimpl
    def helo(self, hostname: str) -> Decision | None:
        return deny(f"{hostname} is my name, not yours") if hostname.lower() == self.ours else None
