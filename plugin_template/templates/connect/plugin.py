"""{{ cookiecutter.__summary }}

**What it does.** At connect it looks up the names of the client's address, and the addresses of these names. A client
whose address has no name that resolves back to it is refused.

**Why it works.** The operators of a mail server give it a name. A home computer that sends spam behind its owner's back
has no name, or one that does not resolve back to its address.

**What it costs.** Two DNS queries per client, in most cases. A client whose name cannot be looked up at the moment is let
in, and so is a trusted client.

**When not to use it.** On a listener for your own users: their computers have no such names.

**On the wire.** 554 5.7.25, and the connection is closed.
"""

from gatepost import Decision, Network, Options, Session, deny, hookimpl

NO_NAME = deny("your address has no name that resolves back to it", status="5.7.25")


class {{ cookiecutter.__class }}Options(Options):
    """The clients that need no name."""

    spare: tuple[Network, ...] = ()
    """Networks whose clients need no name."""


class {{ cookiecutter.__class }}:
    """Refuse clients without a verified name."""

    Options = {{ cookiecutter.__class }}Options
    on_error = "pass"  # a DNS failure must not stop mail
    skip_trusted = True

    def __init__(self, options: {{ cookiecutter.__class }}Options) -> None:
        self.options = options

    @hookimpl
    async def connect(self, session: Session) -> Decision | None:
        if any(session.ip in network for network in self.options.spare):
            return None
        return NO_NAME if await session.verified_name() is None else None
