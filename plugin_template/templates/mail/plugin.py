"""{{ cookiecutter.__summary }}

**What it does.** A sender whose domain is in `domains`, or lies below one of them, is refused.

**Why it works.** Some senders never stop, and honour no request to be taken off a list.

**What it costs.** A look-up in a set.

**When not to use it.** Against spam at large: its senders are made up, and change with every message.

**On the wire.** 550 5.7.1, spoken at RCPT, so that the log shows whom the message was for.
"""

from typing import Annotated

from gatepost import Address, Decision, Options, deny, hookimpl
from pydantic import Field, StringConstraints

Domain = Annotated[str, StringConstraints(to_lower=True, pattern=r"^[A-Za-z0-9._-]+$")]


class {{ cookiecutter.__class }}Options(Options):
    """Who is refused."""

    domains: Annotated[frozenset[Domain], Field(min_length=1)]
    """Domains that may not send to us, nor what lies below them. Such as "example.com"; international ones as xn--…"""


class {{ cookiecutter.__class }}:
    """Refuses senders by their domains."""

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
