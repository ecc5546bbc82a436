"""Give points to clients whose HELO name cannot be that of a mail server, and to those without a name in DNS."""

from gatepost import Decision, DNSTemporaryError, Session, hookimpl, points


class Names:
    on_error = "pass"
    skip_trusted = True

    @hookimpl
    def helo(self, hostname: str) -> Decision | None:
        return None if "." in hostname else points(2, "its HELO name has no dot")

    @hookimpl
    async def mail(self, session: Session) -> Decision | None:
        try:
            name = await session.verified_name()
        except DNSTemporaryError:
            return None
        return None if name else points(2, "its address has no name")
