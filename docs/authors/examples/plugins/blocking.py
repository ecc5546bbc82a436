"""Look up recipients in an SQLite database: SELECT is a blocking call."""

import sqlite3
from contextlib import closing
from pathlib import Path

from gatepost import Address, Decision, Options, accept, hookimpl


class MailboxesOptions(Options):
    path: Path
    """The database. Its table `mailboxes` has a column `address`."""


class Mailboxes:
    Options = MailboxesOptions
    grants = "recipients"

    def __init__(self, options: MailboxesOptions) -> None:
        self.options = options

    @hookimpl(blocking=True)
    def rcpt(self, recipient: Address) -> Decision | None:
        with closing(
            sqlite3.connect(f"{self.options.path.absolute().as_uri()}?mode=ro", uri=True, timeout=5)
        ) as database:
            found = database.execute("SELECT 1 FROM mailboxes WHERE address = ?", (str(recipient).lower(),)).fetchone()
        return accept() if found else None
