"""Refuse senders whose domain is in a DNS list of domains. The query starts at MAIL; its answer is used at RCPT."""

from gatepost import Address, Decision, Envelope, Options, Resolver, Session, deny, hookimpl


class ListedOptions(Options):
    zone: str
    """The DNS list of domains."""


class Listed:
    Options = ListedOptions
    on_error = "pass"  # a DNS failure must not stop mail
    skip_trusted = True

    def __init__(self, options: ListedOptions, dns: Resolver) -> None:
        self.options = options
        self.dns = dns

    @hookimpl
    def mail(self, session: Session, envelope: Envelope, sender: Address) -> None:
        if sender.domain and not sender.domain.startswith("["):
            query = self.dns.query(f"{sender.domain}.{self.options.zone}", "A")
            envelope.notes(self)["answers"] = session.later(query)

    @hookimpl
    async def rcpt(self, envelope: Envelope) -> Decision | None:
        answers = envelope.notes(self).get("answers")
        if answers is None or not await answers:
            return None
        return deny(f"{envelope.sender.domain} is listed by {self.options.zone}")
