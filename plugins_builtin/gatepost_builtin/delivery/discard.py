"""Accept every message and forget it: for trials, load tests and spam traps.

**What it does.** It takes responsibility for every recipient, answers 250, and keeps nothing. It says so in the log
each time gatepost starts, so that nobody runs it by oversight.

**What it costs.** The mail.

**When not to use it.** Whenever somebody is to read what comes. It takes all recipients, so no delivery plugin behind
it in the order is ever reached.

**On the wire.** 250 2.0.0 after the final dot. It takes no options.
"""

from __future__ import annotations

from gatepost import Answers, Log, accept, hookimpl

DISCARDED = accept("discarded")


class Discard:
    """Takes everything, keeps nothing."""

    grants = "delivery"
    takes_everything = True

    def __init__(self, log: Log) -> None:
        self.log = log

    @hookimpl
    def startup(self) -> None:
        self.log.warning("mail_is_discarded", advice="discard is for trials: it throws away every accepted message")

    @hookimpl
    def queue(self) -> Answers:
        return DISCARDED
