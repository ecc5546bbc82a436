"""Refuse mail from outside that claims to come from us."""

from gatepost import Address, Decision, Options, deny, hookimpl


class OursOptions(Options):
    domains: frozenset[str] = frozenset({"example.org"})
    """Domains whose mail may come only from trusted clients."""


class Ours:
    Options = OursOptions
    skip_trusted = True

    def __init__(self, options: OursOptions) -> None:
        self.options = options

    @hookimpl
    def mail(self, sender: Address) -> Decision | None:
        return deny(f"{sender.domain} sends from inside") if sender.domain in self.options.domains else None
