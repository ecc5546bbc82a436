"""{{ cookiecutter.__summary }}

**What it does.** It refuses a sender whose domain is in `domains` or is a subdomain of one of them.

**Why it works.** Some senders never stop, and ignore every request to unsubscribe.

**What it costs.** A look-up in a set.

**When not to use it.** Against spam in general: its senders are forged, and change with every message.

**On the wire.** 550 5.7.1, held back until RCPT, so that the log shows the recipient.
"""

from typing import Annotated

from gatepost import Address, Decision, Options, deny, hookimpl
from pydantic import Field, StringConstraints

Domain = Annotated[str, StringConstraints(to_lower=True, pattern=r"^[A-Za-z0-9._-]+$")]


class {{ cookiecutter.__class }}Options(Options):
    """The senders to refuse."""

    domains: Annotated[frozenset[Domain], Field(min_length=1)]
    """Domains whose mail is refused, with their subdomains. For example "example.com"; write IDNs as "xn--…"."""


class {{ cookiecutter.__class }}:
    """Refuse senders by their domains."""

    Options = {{ cookiecutter.__class }}Options

    def __init__(self, options: {{ cookiecutter.__class }}Options) -> None:
        self.options = options

    @hookimpl
    def mail(self, sender: Address) -> Decision | None:
        labels = sender.domain.split(".")
        names = {".".join(labels[start:]) for start in range(len(labels))}
        if names.isdisjoint(self.options.domains):
            return None
        return deny(f"mail from {sender.domain} is not welcome here")
