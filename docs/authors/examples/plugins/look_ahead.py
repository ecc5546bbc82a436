"""Give a point to senders whose domain does not publish in DNS which hosts may send for it (SPF)."""

from gatepost import Address, Decision, DNSTemporaryError, Resolver, hookimpl, points


class WithoutSpf:
    on_error = "pass"
    skip_trusted = True

    def __init__(self, dns: Resolver) -> None:
        self.dns = dns

    @hookimpl(ahead=True)
    async def mail(self, sender: Address) -> Decision | None:
        if not sender.domain or sender.domain.startswith("["):
            return None
        try:
            texts = await self.dns.query(sender.domain, "TXT")
        except DNSTemporaryError:
            return None
        if any(text.lower().startswith("v=spf1") for text in texts):
            return None
        return points(1, f"{sender.domain} has no SPF record")
