"""Accept all messages and throw them away, for trials, load tests and spam traps.

**What it does.** It takes responsibility for all recipients, replies 250, and stores nothing. A warning in the log says
so at each start, so that nobody runs it by mistake.

**What it costs.** The mail.

**When not to use it.** Whenever somebody is going to read the mail. It accepts all recipients, so no delivery plugin
after it in the order is ever asked.

**On the wire.** 250 2.0.0 after the final dot. It has no options.

**In the log.** `mail_is_discarded` (warning): at each start.
"""

from __future__ import annotations

from gatepost import Log, QueueAnswer, accept, hookimpl

DISCARDED = accept("discarded")


class Discard:
    """Accepts all messages and stores none."""

    grants = "delivery"
    takes_everything = True

    def __init__(self, log: Log) -> None:
        self.log = log

    @hookimpl
    def startup(self) -> None:
        self.log.warning("mail_is_discarded", advice="discard is for trials: it throws away every accepted message")

    @hookimpl
    def queue(self) -> QueueAnswer:
        return DISCARDED
