"""Accept mail for addresses such as shop-2026@example.org, which a user makes up as needed."""

from gatepost import Address, Decision, accept, hookimpl


class MadeUp:
    grants = "recipients"

    @hookimpl
    def rcpt(self, recipient: Address) -> Decision | None:
        is_ours = recipient.domain == "example.org" and recipient.local.startswith("shop-")
        return accept() if is_ours else None
