"""{{ cookiecutter.__summary }}

**What it does.** It reads the file names of a message's attachments. It refuses a message in which one of them has an
extension from `endings`, and a message that is too broken to be parsed.

**Why it works.** Hardly anybody sends a program by mail, except those who hope that it is opened by mistake.

**What it costs.** The whole message is parsed, in a thread: about 10 ms per MiB.

**When not to use it.** As the only protection: it does not look into archives, and a link needs no attachment.

**On the wire.** 550 5.7.1 after the message, or 550 5.6.0 for a message that cannot be parsed.
"""

import email
import email.policy

from gatepost import Decision, Message, Options, deny, hookimpl

BROKEN = deny("the attachments of this message cannot be read", status="5.6.0")
GIVES_UP = (AttributeError, LookupError, RecursionError, TypeError, ValueError)
"""Exceptions of Python's parser for messages that are made to break it."""


class {{ cookiecutter.__class }}Options(Options):
    """The attachments to refuse."""

    endings: frozenset[str] = frozenset({"bat", "cmd", "com", "exe", "hta", "js", "lnk", "msi", "ps1", "scr", "vbs"})
    """File name extensions of refused attachments, in lower case and without the dot."""


class {{ cookiecutter.__class }}:
    """Refuse attachments by the extensions of their names."""

    Options = {{ cookiecutter.__class }}Options

    def __init__(self, options: {{ cookiecutter.__class }}Options) -> None:
        self.options = options

    @hookimpl(blocking=True)
    def message(self, message: Message) -> Decision | None:
        try:
            with message.open() as file:
                parts = email.message_from_binary_file(file, policy=email.policy.default).walk()
                names = [part.get_filename("") for part in parts]
        except GIVES_UP:
            return BROKEN
        endings = {name.lower().rstrip(". ").rpartition(".")[2] for name in names if "." in name}
        found = sorted(endings & self.options.endings)
        return deny(f"attachments that end in .{found[0]} are not accepted here") if found else None
