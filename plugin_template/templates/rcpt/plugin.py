"""{{ cookiecutter.__summary }}

**What it does.** It counts the recipients that a client names. If there are more than `limit` within `window`, the
client is told to come back later, until the window is over.

**Why it works.** A spam engine wants to get through its list tonight. A mail server keeps a message and tries again.

**What it costs.** A counter in the store for each client. While the store fails, there is no limit, and no mail is lost.

**When not to use it.** For clients that send you much of your mail, such as a server that forwards to you: list them in
`access`, before this plugin. Trusted clients are not counted.

**On the wire.** 450 4.7.1 at RCPT.
"""

from typing import Annotated

from gatepost import Decision, Duration, Options, Session, Store, defer, hookimpl
from pydantic import Field

LATER = defer("you have named many recipients: come back later")


class {{ cookiecutter.__class }}Options(Options):
    """The number of recipients, and the window in which they count."""

    limit: Annotated[int, Field(ge=1)] = 100
    """Number of recipients that one client may name within a window."""
    window: Annotated[Duration, Field(gt=0)] = 3600.0
    """Length of a window. It begins with a client's first recipient."""


class {{ cookiecutter.__class }}:
    """Count the recipients of each client."""

    Options = {{ cookiecutter.__class }}Options
    on_error = "pass"  # a store that fails must not stop mail
    skip_trusted = True

    def __init__(self, options: {{ cookiecutter.__class }}Options, store: Store) -> None:
        self.options = options
        self.store = store

    @hookimpl
    async def rcpt(self, session: Session) -> Decision | None:
        count = await self.store.incr(session.client, ttl=self.options.window)
        return LATER if count > self.options.limit else None
